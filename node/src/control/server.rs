//! The node's side of the control socket. Every queue has a bound, and every wait for a client a time limit.
//!
//! Requests are read, checked for size and handed on; what they mean is not known here.

use std::{io, os::unix::net::UnixListener as StdListener, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};

use super::{MAX_CLIENTS, MAX_REPLY_BYTES, MAX_REQUEST_BYTES, Reply, Request, Responder};
use crate::base::text;

/// How long a client may take to send its request, and to read each line of the answer. Local sockets need
/// microseconds, a machine under full load perhaps a second.
const PATIENCE: Duration = Duration::from_secs(5);
/// Rest after an accept that failed, for example because the process is out of file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(200);

/// Accepts connections and hands each request on. Ends when the receiver of `requests` is gone.
///
/// Works on a duplicate of a [`super::ControlSocket`]'s listener, so that the owner still removes the file at
/// its end.
pub async fn serve(listener: &StdListener, requests: mpsc::Sender<(Request, Responder)>) -> io::Result<()> {
    let listener = listener.try_clone()?;
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let stream = tokio::select! {
            biased;
            () = requests.closed() => return Ok(()),
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(ACCEPT_REST).await;
                    continue;
                };
                stream
            }
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                tokio::spawn(client(stream, requests.clone(), place));
            }
            Err(_) => turn_away(&stream),
        }
    }
}

/// Tells a client that all places are taken. Nothing waits: a fresh socket's buffer takes the line at once.
fn turn_away(stream: &UnixStream) {
    let reply = Reply::refused(
        format!("the node already serves {MAX_CLIENTS} clients"),
        Some("end one of them and ask again"),
    );
    if let Ok(line) = encode(&reply) {
        // Whoever does not read it sees the connection close.
        let _ = stream.try_write(&line);
    }
}

/// Serves one client. It keeps its place until this returns.
async fn client(
    mut stream: UnixStream,
    requests: mpsc::Sender<(Request, Responder)>,
    _place: OwnedSemaphorePermit,
) {
    let request = match timeout(PATIENCE, read_request(&mut stream)).await {
        Ok(Ok(request)) => request,
        Ok(Err(reply)) => return last_words(&mut stream, &reply).await,
        Err(_) => {
            let reply = Reply::refused("no request came within 5 s", None);
            return last_words(&mut stream, &reply).await;
        }
    };
    let (responder, mut replies) = Responder::channel();
    if !matches!(timeout(PATIENCE, requests.send((request, responder))).await, Ok(Ok(()))) {
        let reply = Reply::refused("the node is too busy to answer", Some("ask again"));
        return last_words(&mut stream, &reply).await;
    }
    while let Some(reply) = replies.recv().await {
        if write_reply(&mut stream, &reply).await.is_err() || reply.is_final() {
            return;
        }
    }
    // The responder was dropped without a final reply.
    last_words(&mut stream, &Reply::refused("the node ended before it could answer", None)).await;
}

async fn last_words(stream: &mut UnixStream, reply: &Reply) {
    // A client that does not read its refusal is simply left.
    let _ = write_reply(stream, reply).await;
}

/// Reads one line; what follows it is ignored. The size is checked before anything is decoded.
async fn read_request(stream: &mut UnixStream) -> Result<Request, Reply> {
    let mut line = Vec::new();
    let mut chunk = [0; 4096];
    let end = loop {
        let n = stream.read(&mut chunk).await.map_err(|error| Reply::refused(error.to_string(), None))?;
        let end = chunk[..n].iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&chunk[..end.unwrap_or(n)]);
        if line.len() > MAX_REQUEST_BYTES {
            let reason = format!("the request is longer than {MAX_REQUEST_BYTES} bytes");
            return Err(Reply::refused(reason, None));
        }
        if end.is_some() || n == 0 {
            break end;
        }
    };
    if end.is_none() {
        return Err(Reply::refused("the request has no end of line", None));
    }
    serde_json::from_slice(&line).map_err(|error| {
        let reason = format!("the request cannot be read: {}", text::one_line(&error.to_string(), 200));
        Reply::refused(reason, Some("use the same version of `node` on both sides"))
    })
}

async fn write_reply(stream: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    let line = encode(reply)?;
    timeout(PATIENCE, stream.write_all(&line)).await?
}

/// Returns a reply as a line. One that is too long for a client becomes a refusal.
fn encode(reply: &Reply) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(reply)?;
    if line.len() > MAX_REPLY_BYTES {
        line = serde_json::to_vec(&Reply::refused(
            format!("the answer is longer than {MAX_REPLY_BYTES} bytes"),
            Some("ask for less, as with --limit"),
        ))?;
    }
    line.push(b'\n');
    Ok(line)
}
