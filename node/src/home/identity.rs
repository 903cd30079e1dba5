//! The node's identity: one ed25519 key in its home, which signs its records and is its name on the network.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, bail};
use libp2p::identity::Keypair;

/// The file in the home: the key's 32 secret bytes in hexadecimal digits, readable by its owner alone.
const FILE: &str = "identity";

/// Loads the home's key, or makes one at the first call.
pub fn load(home: &Path) -> anyhow::Result<Keypair> {
    let path = home.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let secret = blake3::Hash::from_hex(text.trim());
            let secret = secret.ok().context("it is not 64 hexadecimal digits");
            let secret = secret.with_context(|| {
                format!("the identity `{}` is damaged; move it away to get a new one", path.display())
            })?;
            Ok(Keypair::ed25519_from_bytes(*secret.as_bytes())?)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(&path),
        Err(error) => Err(error).with_context(|| format!("cannot read the identity `{}`", path.display())),
    }
}

fn create(path: &Path) -> anyhow::Result<Keypair> {
    let keys = Keypair::generate_ed25519();
    let Ok(pair) = keys.clone().try_into_ed25519() else { bail!("the new key is no ed25519 key") };
    let mut secret = [0; 32];
    secret.copy_from_slice(pair.secret().as_ref());
    let failed = || format!("cannot write the identity `{}`", path.display());
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(failed)?;
    writeln!(file, "{}", blake3::Hash::from_bytes(secret).to_hex()).with_context(failed)?;
    file.sync_all().with_context(failed)?;
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_home_keeps_its_identity_to_itself() {
        let home = tempfile::tempdir().expect("a folder");
        let first = load(home.path()).expect("made");
        assert_eq!(load(home.path()).expect("loaded").public(), first.public());
        let mode = fs::metadata(home.path().join(FILE)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(home.path().join(FILE), "xyz").expect("writable");
        let error = format!("{:#}", load(home.path()).expect_err("damaged"));
        assert!(error.contains("is damaged; move it away"), "{error}");
    }
}
