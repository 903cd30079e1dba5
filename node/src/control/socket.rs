//! Where the control socket lies: in the home, or elsewhere if the path there would be too long.
//!
//! What goes over it is in `client` and `server`.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

/// Name of the socket in the home.
const SOCKET_NAME: &str = "control.sock";
/// Name of the file in the home that holds the path of a socket elsewhere.
const ELSEWHERE_NAME: &str = "control.path";
/// Longest path of a socket in its home, bytes. `sun_path` holds 104 with the final zero on macOS and the
/// BSDs, 108 on Linux; three are left for the name that the socket is created under.
const LONGEST_PATH: usize = 100;

/// A bound control socket. Dropping it removes its file.
#[derive(Debug)]
pub struct ControlSocket {
    /// The listener that clients connect to.
    pub listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Returns the path of the socket's file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // A file that stays behind is harmless: the next node replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Binds the control socket of a home whose lock the caller holds. A socket that a killed node left is
/// replaced.
pub fn bind(home: &Path) -> io::Result<ControlSocket> {
    let path = place(home)?;
    if UnixStream::connect(&path).is_ok() {
        let text = format!("another node answers at `{}`", path.display());
        return Err(io::Error::new(ErrorKind::AddrInUse, text));
    }
    // Created under another name, so that nobody connects before the mode is right.
    let newborn = path.with_extension("new");
    remove_if_there(&newborn)?;
    let listener = UnixListener::bind(&newborn)?;
    fs::set_permissions(&newborn, fs::Permissions::from_mode(0o600))?;
    fs::rename(&newborn, &path)?;
    Ok(ControlSocket { listener, path })
}

/// Returns the path of a home's socket, whether or not a node runs.
pub fn socket_path(home: &Path) -> PathBuf {
    match fs::read_to_string(home.join(ELSEWHERE_NAME)) {
        Ok(text) => PathBuf::from(text.trim_end()),
        Err(_) => home.join(SOCKET_NAME),
    }
}

/// Chooses the socket's path, and writes it into the home if it lies elsewhere.
fn place(home: &Path) -> io::Result<PathBuf> {
    let inside = home.join(SOCKET_NAME);
    let note = home.join(ELSEWHERE_NAME);
    if inside.as_os_str().len() <= LONGEST_PATH {
        remove_if_there(&note)?;
        return Ok(inside);
    }
    let base = std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|folder| folder.is_absolute() && folder.as_os_str().len() < LONGEST_PATH / 2)
        .unwrap_or_else(|| PathBuf::from("/tmp"));
    let path = short_path(&base, home)?;
    fs::write(&note, path.as_os_str().as_encoded_bytes())?;
    Ok(path)
}

/// Returns the path of a home's socket in a folder below `base` that only this user can enter.
fn short_path(base: &Path, home: &Path) -> io::Result<PathBuf> {
    let user = rustix::process::getuid().as_raw();
    let folder = base.join(format!("autoswarm-{user}"));
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // In /tmp somebody else may have made a folder of that name first. It is used only if it is this user's,
    // and nobody else can enter it.
    let seen = fs::symlink_metadata(&folder)?;
    if !seen.is_dir() || seen.uid() != user || seen.mode() & 0o077 != 0 {
        let text = format!("`{}` is not a folder that only you can enter; remove it", folder.display());
        return Err(io::Error::new(ErrorKind::PermissionDenied, text));
    }
    // One home has one socket, however its path is written.
    let home = fs::canonicalize(home)?;
    let name = blake3::hash(home.as_os_str().as_encoded_bytes()).to_hex();
    Ok(folder.join(format!("{}.sock", &name[..16])))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_for_its_owner_only_and_goes_with_the_node() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let socket = bind(home.path()).expect("bound");
        let path = home.path().join("control.sock");
        assert_eq!(socket.path(), path);
        assert_eq!(socket_path(home.path()), path);
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        UnixStream::connect(&path).expect("somebody listens");
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_node_left_is_replaced_and_a_living_one_is_not() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let path = home.path().join("control.sock");
        drop(UnixListener::bind(&path).expect("bound")); // the file stays, as after a kill
        assert!(path.exists());
        let socket = bind(home.path()).expect("replaced");
        let error = bind(home.path()).expect_err("somebody is there");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        drop(socket);
    }

    #[test]
    fn a_home_with_a_long_path_gets_a_short_socket() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = folder.path().join("h".repeat(120));
        fs::create_dir(&home).expect("a folder");
        let path = short_path(folder.path(), &home).expect("a place");
        let parent = path.parent().expect("a folder");
        assert_eq!(fs::metadata(parent).expect("there").mode() & 0o777, 0o700);
        assert_eq!(short_path(folder.path(), &home).expect("a place"), path);
        assert_ne!(short_path(folder.path(), folder.path()).expect("a place"), path);

        let socket = bind(&home).expect("bound");
        assert!(socket.path().as_os_str().len() <= LONGEST_PATH);
        assert_eq!(socket_path(&home), socket.path());
        UnixStream::connect(socket_path(&home)).expect("somebody listens");
    }

    #[test]
    fn a_folder_that_others_can_enter_is_refused() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let user = rustix::process::getuid().as_raw();
        let folder = base.path().join(format!("autoswarm-{user}"));
        fs::create_dir(&folder).expect("a folder");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("ours");
        let error = short_path(base.path(), base.path()).expect_err("open to all");
        assert!(error.to_string().contains("only you can enter"), "{error}");
    }
}
