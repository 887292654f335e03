//! Listening sockets that outlive their receiver: at a reload the successor at the same address gets a copy of the socket that is
//! bound already, so there is no moment in which nobody listens, and what waits to be accepted is not lost.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// All of the process. Cloning shares it.
#[derive(Clone, Default)]
pub struct Sockets(Arc<Mutex<Vec<Held>>>);

struct Held {
    /// The component id.
    owner: String,
    /// What the owner calls it: `grpc`.
    name: String,
    /// What was asked for.
    wanted: Vec<SocketAddr>,
    listener: Weak<TcpListener>,
    /// Whether a successor may have it.
    is_offered: bool,
}

/// A bound socket; it is closed when it and all its copies are dropped.
#[derive(Debug)]
pub struct Socket(Arc<TcpListener>);

impl Sockets {
    fn held(&self) -> MutexGuard<'_, Vec<Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sockets of these owners, and of nobody else, may be taken over until this is called again.
    pub fn offer(&self, owners: &[&str]) {
        let mut held = self.held();
        held.retain(|one| one.listener.strong_count() > 0);
        for one in &mut *held {
            one.is_offered = owners.contains(&one.owner.as_str());
        }
    }

    /// Takes over the socket that was bound for the same, else binds the first of the addresses that can be.
    ///
    /// # Errors
    /// None of the addresses can be bound.
    pub fn bind(&self, owner: &str, name: &str, wanted: &[SocketAddr]) -> io::Result<Socket> {
        let mut held = self.held();
        let is_it = |one: &Held| {
            let bound = one.listener.upgrade().and_then(|listener| listener.local_addr().ok());
            let is_same = one.owner == owner && one.name == name && one.wanted == wanted;
            one.is_offered && bound.is_some_and(|bound| is_same || wanted.contains(&bound))
        };
        let offered = held.iter_mut().find(|one| is_it(one));
        let listener = match offered.and_then(|one| Some((one.listener.upgrade()?, &mut one.is_offered))) {
            Some((listener, is_offered)) => {
                *is_offered = false;
                listener.try_clone()?
            }
            None => TcpListener::bind(wanted)?,
        };
        listener.set_nonblocking(true)?;
        let listener = Arc::new(listener);
        held.push(Held {
            owner: owner.to_owned(),
            name: name.to_owned(),
            wanted: wanted.to_vec(),
            listener: Arc::downgrade(&listener),
            is_offered: false,
        });
        Ok(Socket(listener))
    }
}

impl Socket {
    /// Where it listens.
    ///
    /// # Errors
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// To accept from; non-blocking. Keep the socket as long as this is used, so that a successor finds it.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn listener(&self) -> io::Result<TcpListener> {
        self.0.try_clone()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn a_successor_gets_the_socket_and_nobody_else_does() {
        let sockets = Sockets::default();
        let first = sockets.bind("otlp", "grpc", &[ANY]).unwrap();
        let at = first.local_addr().unwrap();
        assert!(sockets.bind("otlp/b", "grpc", &[at]).is_err(), "it is not offered");
        sockets.offer(&["otlp"]);
        let other = sockets.bind("otlp", "http", &[ANY]).unwrap();
        assert_ne!(other.local_addr().unwrap(), at, "the other port of the same owner is its own");
        let second = sockets.bind("otlp/b", "grpc", &[at]).unwrap();
        assert!(sockets.bind("otlp/c", "grpc", &[at]).is_err(), "one successor, no more");
        drop(first);
        assert!(TcpStream::connect(at).is_ok());
        sockets.offer(&["otlp"]);
        assert!(sockets.bind("otlp/c", "grpc", &[at]).is_err(), "it belongs to its successor");
        drop(second);
        assert!(TcpStream::connect(at).is_err(), "the last holder closes it");
        assert!(sockets.bind("otlp/c", "grpc", &[at]).is_ok());
    }

    #[test]
    fn a_free_port_stays_the_same_for_the_same_owner() {
        let sockets = Sockets::default();
        let first = sockets.bind("otlp", "grpc", &[ANY]).unwrap();
        sockets.offer(&["otlp"]);
        let second = sockets.bind("otlp", "grpc", &[ANY]).unwrap();
        assert_eq!(first.local_addr().unwrap(), second.local_addr().unwrap());
    }
}
