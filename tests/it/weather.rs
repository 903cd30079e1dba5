//! A transport whose links a test decides: memory channels with a delay, which can stall or be cut.
//!
//! It also counts all bytes. Everything on top of it is real: noise, yamux and the node's own protocols.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use autoswarm_node::swarm::network::Other;
use futures::{AsyncRead, AsyncWrite, FutureExt, TryFutureExt, future::BoxFuture};
use libp2p::{
    Multiaddr, Transport,
    core::{
        transport::{DialOpts, ListenerId, MemoryTransport, TransportError, TransportEvent, memory::Channel},
        upgrade::Version,
    },
    identity::Keypair,
    multiaddr::Protocol,
    noise, yamux,
};
use tokio::time::{Instant, Sleep};

/// How often a waiting link checks whether its state has changed.
const LOOK: Duration = Duration::from_millis(100);
/// Chunks in flight on a link; more wait at the sender.
const IN_FLIGHT: usize = 256;

/// The state of a link between two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// Bytes pass.
    Open,
    /// Bytes wait, and nobody is told.
    Stalled,
    /// Connections break, and none can be made.
    Cut,
}

type Rule = Box<dyn Fn(u64, u64) -> Link + Send>;

/// The state of all links of one test, by the ports of the nodes.
#[derive(Clone)]
pub(crate) struct Weather {
    delay: Duration,
    rule: Arc<Mutex<Rule>>,
    bytes: Arc<AtomicU64>,
}

impl Weather {
    /// Makes a network whose links are open, with this delay one way.
    pub(crate) fn new(delay: Duration) -> Self {
        Self { delay, rule: Arc::new(Mutex::new(Box::new(|_, _| Link::Open))), bytes: Arc::default() }
    }

    /// Changes the state of all links from now on; a rule is given the two ports, the smaller one first.
    pub(crate) fn set(&self, rule: impl Fn(u64, u64) -> Link + Send + 'static) {
        *self.rule.lock().expect("no test panics in it") = Box::new(rule);
    }

    /// Returns how many bytes went over all links, both ways.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Makes the transport of the node at a port.
    pub(crate) fn transport(&self, keys: &Keypair, port: u64) -> Other {
        Wire { inner: MemoryTransport::new(), port, weather: self.clone(), listeners: Vec::new() }
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(keys).expect("an ed25519 key"))
            .multiplex(yamux::Config::default())
            .boxed()
    }

    fn link(&self, ends: (u64, u64)) -> Link {
        self.rule.lock().expect("no test panics in it")(ends.0.min(ends.1), ends.0.max(ends.1))
    }
}

/// The transport of one node.
struct Wire {
    inner: MemoryTransport,
    port: u64,
    weather: Weather,
    listeners: Vec<ListenerId>,
}

impl Drop for Wire {
    /// Frees the ports, which the memory transport itself does not do.
    fn drop(&mut self) {
        for id in &self.listeners {
            self.inner.remove_listener(*id);
        }
    }
}

impl Wire {
    fn line(weather: &Weather, inner: Channel<Vec<u8>>, ends: Option<(u64, u64)>) -> Line {
        Line {
            inner,
            ends,
            weather: weather.clone(),
            arriving: VecDeque::new(),
            is_over: false,
            reading: Box::pin(tokio::time::sleep(Duration::ZERO)),
            writing: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }
}

impl Transport for Wire {
    type Output = Line;
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<Line>>;
    type Dial = BoxFuture<'static, io::Result<Line>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address).map_err(|error| error.map(io::Error::other))?;
        self.listeners.push(id);
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listeners.retain(|listener| *listener != id);
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(Protocol::Memory(port)) = address.iter().next() else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let (ends, weather) = ((self.port, port), self.weather.clone());
        if weather.link(ends) == Link::Cut {
            return Ok(futures::future::err(io::ErrorKind::ConnectionRefused.into()).boxed());
        }
        let dial = self.inner.dial(address, options).map_err(|error| error.map(io::Error::other))?;
        let dial =
            dial.map_ok(move |inner| Self::line(&weather, inner, Some(ends))).map_err(io::Error::other);
        Ok(dial.boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let weather = self.weather.clone();
        Pin::new(&mut self.inner).poll(cx).map(|event| {
            // This end does not know who dialled; the dialling end obeys the weather for both.
            let come = |upgrade: futures::future::Ready<Result<Channel<Vec<u8>>, _>>| {
                upgrade
                    .map_ok(move |inner| Self::line(&weather, inner, None))
                    .map_err(io::Error::other)
                    .boxed()
            };
            event.map_upgrade(come).map_err(io::Error::other)
        })
    }
}

/// One end of a connection.
struct Line {
    inner: Channel<Vec<u8>>,
    /// The two ports; only the end that dialled knows them.
    ends: Option<(u64, u64)>,
    weather: Weather,
    arriving: VecDeque<(Instant, VecDeque<u8>)>,
    is_over: bool,
    reading: Pin<Box<Sleep>>,
    writing: Pin<Box<Sleep>>,
}

impl Line {
    fn link(&self) -> Link {
        self.ends.map_or(Link::Open, |ends| self.weather.link(ends))
    }

    fn count(&self, bytes: usize) {
        // At one end only, or every byte would be counted twice.
        if self.ends.is_some() {
            self.weather.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Takes everything that has arrived at this end, to be read after its delay.
    fn receive(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        while !self.is_over && self.arriving.len() < IN_FLIGHT {
            match Pin::new(&mut self.inner).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(0)) => self.is_over = true,
                Poll::Ready(Ok(bytes)) => {
                    self.count(bytes);
                    let due = Instant::now() + self.weather.delay;
                    self.arriving.push_back((due, buffer[..bytes].iter().copied().collect()));
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        Ok(())
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let link = self.link();
            if link == Link::Cut {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            self.receive(cx)?;
            let now = Instant::now();
            let line = &mut *self;
            let wake = match line.arriving.front_mut() {
                Some((due, bytes)) if *due <= now && link == Link::Open => {
                    let count = bytes.len().min(buffer.len());
                    for (place, byte) in buffer.iter_mut().zip(bytes.drain(..count)) {
                        *place = byte;
                    }
                    if bytes.is_empty() {
                        line.arriving.pop_front();
                    }
                    return Poll::Ready(Ok(count));
                }
                Some((due, _)) if link == Link::Open => *due,
                None if line.is_over => return Poll::Ready(Ok(0)),
                // The end that did not dial learns of a cut when the other end closes the channel.
                None if line.ends.is_none() => return Poll::Pending,
                _ => now + LOOK,
            };
            // Nothing wakes a link whose state changes, so it looks again soon.
            self.reading.as_mut().reset(wake.min(now + LOOK));
            ready!(self.reading.poll_unpin(cx));
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.link() {
                Link::Cut => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Link::Stalled => {
                    let wake = Instant::now() + LOOK;
                    self.writing.as_mut().reset(wake);
                    ready!(self.writing.poll_unpin(cx));
                }
                Link::Open => {
                    let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
                    self.count(written);
                    return Poll::Ready(Ok(written));
                }
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
