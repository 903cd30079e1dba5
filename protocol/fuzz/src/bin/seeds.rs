//! `seeds FOLDER` writes each target's valid and hostile inputs into a folder, as libFuzzer's first corpus.

use std::{env, fs, io, path::Path};

fn main() -> io::Result<()> {
    let folder = env::args().nth(1).ok_or_else(|| io::Error::other("which folder?"))?;
    for target in autoswarm_fuzz::targets() {
        let folder = Path::new(&folder).join(target.name);
        fs::create_dir_all(&folder)?;
        let hostile = (target.hostile)().into_iter().map(|(_, input)| input);
        for (index, input) in (target.seeds)().into_iter().chain(hostile).enumerate() {
            fs::write(folder.join(format!("seed-{index}")), input)?;
        }
    }
    Ok(())
}
