//! Who is at the other end of a connection, and a way to close it.

use std::{
    io,
    net::{Shutdown, SocketAddr},
    os::fd::AsFd,
    sync::Arc,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::net::{TcpListener, TcpStream};

/// Accepts connections.
pub(super) struct Door(pub(super) TcpListener);

impl Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        let (connection, peer) = Listener::accept(&mut self.0).await;
        let _ = connection.set_nodelay(true); // a matter of speed only
        (connection, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Travels with every request of a connection.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) connection: Connection,
}

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        Self { address: *stream.remote_addr(), connection: Connection::of(stream.io()) }
    }
}

/// A second handle to a TCP connection, since the first one is the HTTP server's. `None`, if there are no more to be had.
#[derive(Clone)]
pub(super) struct Connection(Option<Arc<std::net::TcpStream>>);

impl Connection {
    fn of(stream: &TcpStream) -> Self {
        let handle = stream.as_fd().try_clone_to_owned();
        Self(handle.ok().map(|handle| Arc::new(handle.into())))
    }

    /// Closes it both ways, so that whatever the HTTP server still writes goes nowhere, and it sees an end and lets go.
    pub(super) fn cut(&self) {
        let closed = self.0.as_ref().map(|connection| connection.shutdown(Shutdown::Both));
        if closed.is_none() {
            tracing::warn!("out of file descriptors: a connection that was to be dropped stays open");
        }
    }
}
