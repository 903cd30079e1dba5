//! The control socket over real sockets: requests are answered, and no client hurts the node or another one.

use std::{
    future::Future,
    io::{BufRead, BufReader, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
};

use autoswarm_protocol::Verdict;

use super::*;
use crate::ui::view::frame::tests::snapshot;

/// Runs `clients` on a thread of its own against a served socket; `answer` plays the node's loop.
fn with_node<A, F, T: Send + 'static>(answer: A, clients: impl FnOnce(PathBuf) -> T + Send + 'static) -> T
where
    A: Fn(Request, Responder) -> F,
    F: Future<Output = ()>,
{
    let home = tempfile::tempdir().expect("a temporary folder");
    let path = home.path().to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async move {
        let socket = bind(home.path()).expect("bound");
        let (sender, mut requests) = mpsc::channel(MAX_WAITING_REQUESTS);
        let clients = thread::spawn(move || clients(path));
        let mut finished =
            tokio::task::spawn_blocking(move || clients.join().expect("the clients' checks hold"));
        let server = serve(&socket.listener, sender);
        tokio::pin!(server);
        loop {
            tokio::select! {
                result = &mut finished => return result.expect("joined"),
                Some((request, responder)) = requests.recv() => answer(request, responder).await,
                result = &mut server => result.expect("the server goes on"),
            }
        }
    })
}

/// A node that answers status, refuses a pause, sends two events of a try, and never answers a stop.
async fn small_node(request: Request, responder: Responder) {
    match request {
        Request::Status => responder.finish(Reply::Status { snapshot: Box::new(snapshot()) }),
        Request::Pause => responder.finish(Reply::refused("already paused", Some("resume first"))),
        Request::Try { patch, because } => {
            let proposed = NodeEvent::Proposed { number: 1, patch: patch.clone(), because };
            responder.event(&proposed);
            responder.event(&NodeEvent::Concluded {
                number: 1,
                patch,
                verdict: Verdict::Baseline,
                commit: String::new(),
            });
            responder.finish(Reply::Done { text: "tried".to_owned() });
        }
        _ => drop(responder),
    }
}

fn quiet(_: Reply) {}

/// Sends bytes as they are, and returns the first line of the answer.
fn raw(home: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket_path(home)).expect("somebody listens");
    // The node may refuse and close before everything is sent.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut line = String::new();
    let _ = BufReader::new(stream).read_line(&mut line);
    line
}

#[test]
fn what_is_asked_is_answered() {
    with_node(small_node, |home| {
        let reply = ask(&home, &Request::Status, &mut quiet).expect("an answer");
        assert_eq!(reply, Reply::Status { snapshot: Box::new(snapshot()) });
    });
}

#[test]
fn events_come_before_the_verdict() {
    with_node(small_node, |home| {
        let mut seen = Vec::new();
        let request = Request::Try { patch: "depth 3".to_owned(), because: "smaller".to_owned() };
        let reply = ask(&home, &request, &mut |reply| seen.push(reply)).expect("an answer");
        assert_eq!(reply, Reply::Done { text: "tried".to_owned() });
        assert!(
            matches!(
                &seen[..],
                [
                    Reply::Event { event: NodeEvent::Proposed { .. } },
                    Reply::Event { event: NodeEvent::Concluded { .. } }
                ]
            ),
            "{seen:?}"
        );
    });
}

#[test]
fn a_refusal_says_why_and_what_to_do() {
    with_node(small_node, |home| match ask(&home, &Request::Pause, &mut quiet) {
        Err(ControlError::Refused { reason, fix }) => {
            assert_eq!((reason.as_str(), fix.as_deref()), ("already paused", Some("resume first")));
        }
        other => panic!("{other:?}"),
    });
}

#[test]
fn a_node_that_ends_meanwhile_says_so() {
    with_node(small_node, |home| {
        let error = ask(&home, &Request::Stop, &mut quiet).expect_err("no answer");
        assert_eq!(error.to_string(), "the node ended before it could answer");
    });
}

#[test]
fn nobody_there_is_told_apart_from_a_broken_answer() {
    let home = tempfile::tempdir().expect("a temporary folder");
    assert!(matches!(ask(home.path(), &Request::Status, &mut quiet), Err(ControlError::NotRunning)));
    let socket = bind(home.path()).expect("bound");
    let answering = thread::spawn(move || {
        let (mut stream, _) = socket.listener.accept().expect("a client");
        stream.write_all(b"{\"reply\":\"moon\"}\n").expect("written");
    });
    let error = ask(home.path(), &Request::Status, &mut quiet).expect_err("not an answer");
    assert!(matches!(error, ControlError::BadReply(_)), "{error}");
    answering.join().expect("answered");
}

#[track_caller]
fn refused(bytes: &[u8], because: &str) {
    let bytes = bytes.to_vec();
    let line = with_node(small_node, move |home| {
        let line = raw(&home, &bytes);
        ask(&home, &Request::Status, &mut quiet).expect("the node goes on");
        line
    });
    assert!(line.contains("\"refused\"") && line.contains(because), "{line}");
}

#[test]
fn garbage_is_refused_and_the_node_goes_on() {
    refused(b"\xff\xfe\x00\n", "cannot be read");
    refused(b"{\"request\":\"fly\"}\n", "cannot be read");
    refused(b"{\"request\":\"try\",\"patch\":\"x\"}\n", "cannot be read");
    refused(b"\n", "cannot be read");
    refused(b"{\"request\":\"status\"}", "no end of line");
    refused(b"", "no end of line");
    refused(&[b'['; 2000], "no end of line");
    refused(&[&[b'['; 2000][..], b"\n"].concat(), "cannot be read");
}

#[test]
fn an_oversize_request_is_refused_before_it_is_all_there() {
    refused(&vec![b'x'; MAX_REQUEST_BYTES + 5000], "longer than 65536 bytes");
}

#[test]
fn an_idle_client_holds_up_nobody() {
    with_node(small_node, |home| {
        let _idle = UnixStream::connect(socket_path(&home)).expect("somebody listens");
        for _ in 0..50 {
            ask(&home, &Request::Status, &mut quiet).expect("an answer");
        }
    });
}

#[test]
fn more_clients_than_places_are_turned_away_and_places_come_back() {
    with_node(small_node, |home| {
        let idle: Vec<UnixStream> = (0..MAX_CLIENTS)
            .map(|_| UnixStream::connect(socket_path(&home)).expect("somebody listens"))
            .collect();
        let error = ask(&home, &Request::Status, &mut quiet).expect_err("no place");
        assert_eq!(error.to_string(), format!("the node already serves {MAX_CLIENTS} clients"));
        // Each idle client's end frees its place; the node notices in its own time.
        drop(idle);
        while ask(&home, &Request::Status, &mut quiet).is_err() {
            thread::yield_now();
        }
    });
}

#[test]
fn a_client_that_does_not_read_never_blocks_the_node() {
    let (responder, mut replies) = Responder::channel();
    let event = NodeEvent::Paused { reason: None };
    for _ in 0..10_000 {
        responder.event(&event);
    }
    responder.finish(Reply::Done { text: "over".to_owned() });
    let mut received = Vec::new();
    while let Ok(reply) = replies.try_recv() {
        received.push(reply);
    }
    assert_eq!(received.len(), MAX_WAITING_REPLIES);
    assert!(received.last().is_some_and(Reply::is_final), "the final reply always has a place");
}

#[test]
fn a_client_that_left_holds_nothing_up() {
    let (responder, replies) = Responder::channel();
    drop(replies);
    responder.event(&NodeEvent::Paused { reason: None });
    responder.finish(Reply::Done { text: String::new() });
}
