//! The asking side of the control socket. Blocking, since a command does nothing else meanwhile.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use super::{MAX_REPLY_BYTES, Reply, Request, socket_path};
use crate::base::text;

/// How long an answer may take that needs no training.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("no node is running on this home")]
    NotRunning,
    /// The node says no.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
        /// What to do about it.
        fix: Option<String>,
    },
    /// The node's answer makes no sense.
    #[error("the running node's answer cannot be read: {0}")]
    BadReply(String),
    /// The node does not answer, as before its session has begun.
    #[error(
        "the running node did not answer within 15 s; it may still be preparing its text or measuring the machine"
    )]
    Silent,
    /// The connection broke.
    #[error("the connection to the running node broke")]
    Broken(#[source] io::Error),
}

/// Asks the node that holds `home` and returns its final reply; events that come before it go to `on_event`.
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
    // A node that turns clients away answers and closes without reading: what it said is read below all the same.
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

fn read_reply(reader: &mut impl BufRead) -> Result<Option<Reply>, ControlError> {
    let mut line = Vec::new();
    let n =
        reader.by_ref().take(MAX_REPLY_BYTES as u64 + 2).read_until(b'\n', &mut line).map_err(|error| {
            match error.kind() {
                // What a read time limit ends with, on Linux and elsewhere.
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
