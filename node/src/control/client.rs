//! The asking side of the control socket. Blocking, since a command does nothing else meanwhile.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use super::{MAX_REPLY_BYTES, Reply, Request, socket_path};
use crate::base::text;

/// How long an answer may take for which nothing has to be trained.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why a request got no answer, or a refusal.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No node listens on the home's socket.
    #[error("no node is running on this home")]
    NotRunning,
    /// The node refuses the request.
    #[error("{reason}")]
    Refused {
        /// Why, in one line.
        reason: String,
        /// What to do about it, where something can be done.
        fix: Option<String>,
    },
    /// The node's answer is no line of JSON that this version knows.
    #[error("the running node's answer cannot be read: {0}")]
    BadReply(String),
    /// The node does not answer in time; it cannot before its session has begun.
    #[error(
        "the running node did not answer within 15 s; \
         it may still be preparing its text or measuring the machine"
    )]
    Silent,
    /// The connection broke before the answer was complete.
    #[error("the connection to the running node broke")]
    Broken(#[source] io::Error),
}

/// Asks the node that holds `home` and returns its final reply. Events that come before it go to `on_event`.
///
/// `Try` and `Sync` wait as long as it takes; everything else at most 15 s.
pub fn ask(home: &Path, request: &Request, on_event: &mut dyn FnMut(Reply)) -> Result<Reply, ControlError> {
    let mut stream = UnixStream::connect(socket_path(home)).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => ControlError::NotRunning,
        _ => ControlError::Broken(error),
    })?;
    let patience = (!matches!(request, Request::Try { .. } | Request::Sync)).then_some(PATIENCE);
    stream.set_read_timeout(patience).map_err(ControlError::Broken)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(ControlError::Broken)?;
    let mut line = serde_json::to_vec(request).map_err(|error| ControlError::Broken(error.into()))?;
    line.push(b'\n');
    // A node that turns this client away answers and closes without reading. Sending may then fail, but the
    // answer can still be read below.
    let sent = stream.write_all(&line);
    let mut reader = BufReader::new(stream);
    loop {
        let reply = match read_reply(&mut reader) {
            Ok(Some(reply)) => reply,
            Ok(None) => {
                let ended = || io::Error::new(ErrorKind::UnexpectedEof, "the answer ended early");
                return Err(ControlError::Broken(sent.err().unwrap_or_else(ended)));
            }
            Err(error) => return Err(error),
        };
        match reply {
            Reply::Refused { reason, fix } => return Err(ControlError::Refused { reason, fix }),
            reply if reply.is_final() => return Ok(reply),
            event => on_event(event),
        }
    }
}

/// Reads one line of the answer; none at its end.
fn read_reply(reader: &mut impl BufRead) -> Result<Option<Reply>, ControlError> {
    let mut line = Vec::new();
    let n =
        reader.by_ref().take(MAX_REPLY_BYTES as u64 + 2).read_until(b'\n', &mut line).map_err(|error| {
            match error.kind() {
                // What a read ends with that took too long: the first on Linux, the second elsewhere.
                ErrorKind::WouldBlock | ErrorKind::TimedOut => ControlError::Silent,
                _ => ControlError::Broken(error),
            }
        })?;
    if n == 0 {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(ControlError::BadReply("a line without an end".to_owned()));
    }
    serde_json::from_slice(&line)
        .map(Some)
        .map_err(|error| ControlError::BadReply(text::one_line(&error.to_string(), 200)))
}
