//! A wire that can be cut after any byte.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::Result;

/// How many bytes a connection carries before it is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) up: usize,
    pub(crate) down: usize,
}

impl Budget {
    pub(crate) const ALL: Self = Self { up: usize::MAX, down: usize::MAX };
}

/// Carries connections to a broker. Each takes the budget of the moment when it begins.
pub(crate) struct Proxy {
    pub(crate) address: String,
    wire: Arc<Wire>,
}

struct Wire {
    target: String,
    budget: Mutex<Box<dyn FnMut() -> Budget + Send>>,
    /// The connection that began last, to be cut by hand.
    last: Mutex<Option<Socket>>,
    /// How many have used up what they had.
    cuts: AtomicUsize,
}

impl Proxy {
    /// To an address, `HOST:PORT`, or a Unix socket, `/PATH`; and has such an address itself.
    pub(crate) fn start(target: &str) -> Result<Self> {
        let (listener, address) = listen(target)?;
        let wire = Arc::new(Wire {
            target: target.to_owned(),
            budget: Mutex::new(Box::new(|| Budget::ALL)),
            last: Mutex::default(),
            cuts: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&wire);
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                // A connection that fails is a cut like any other.
                let _ = shared.carry(client);
            }
        });
        Ok(Self { address, wire })
    }

    /// What the connections from now on carry.
    pub(crate) fn set(&self, budget: Budget) {
        self.set_each(move || budget);
    }

    /// What each connection from now on carries.
    pub(crate) fn set_each(&self, budget: impl FnMut() -> Budget + Send + 'static) {
        *self.wire.budget.lock().unwrap() = Box::new(budget);
    }

    /// Cuts the connection that began last.
    pub(crate) fn cut(&self) {
        if let Some(last) = self.wire.last.lock().unwrap().take() {
            let _ = last.shutdown(Shutdown::Both); // it may be over
        }
    }

    /// How many connections have been cut because they had used up what they had.
    pub(crate) fn cuts(&self) -> usize {
        self.wire.cuts.load(Ordering::Relaxed)
    }
}

impl Wire {
    fn carry(self: &Arc<Self>, client: Socket) -> std::io::Result<()> {
        let budget = (self.budget.lock().unwrap())();
        let server = if self.target.starts_with('/') {
            Socket::from(UnixStream::connect(&self.target)?)
        } else {
            client.set_tcp_nodelay(true)?;
            let server = TcpStream::connect(&self.target)?;
            server.set_nodelay(true)?;
            Socket::from(server)
        };
        *self.last.lock().unwrap() = Some(client.try_clone()?);
        let (from, to) = (client.try_clone()?, server.try_clone()?);
        let [up, down] = [Arc::clone(self), Arc::clone(self)];
        thread::spawn(move || {
            up.copy((&from, &to), budget.up);
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Write);
        });
        thread::spawn(move || {
            down.copy((&server, &client), budget.down);
            let _ = client.shutdown(Shutdown::Both);
            // What the broker sends now is lost on the way, which it cannot notice yet. (If it does
            // while it sends PUBRELs again, mosquitto 2.0.11 takes back what it had released.)
            let _ = std::io::copy(&mut &server, &mut std::io::sink());
        });
        Ok(())
    }

    /// Copies so many bytes, or all there are.
    fn copy(&self, (mut from, mut to): (&Socket, &Socket), mut budget: usize) {
        let mut chunk = [0; 4096];
        while budget > 0 {
            let len = chunk.len().min(budget);
            match from.read(&mut chunk[..len]) {
                Ok(count) if count > 0 && to.write_all(&chunk[..count]).is_ok() => budget -= count,
                _ => return,
            }
        }
        self.cuts.fetch_add(1, Ordering::Relaxed);
    }
}

/// Listens at an address of the same kind.
fn listen(target: &str) -> Result<(Socket, String)> {
    let unix = target.starts_with('/');
    let path = PathBuf::from(format!("{target}.proxy"));
    let (domain, address) = if unix {
        (Domain::UNIX, SockAddr::unix(&path)?)
    } else {
        (Domain::IPV4, SockAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0))))
    };
    let listener = Socket::new(domain, Type::STREAM, None)?;
    listener.bind(&address)?;
    listener.listen(128)?;
    let own = match listener.local_addr()?.as_socket() {
        Some(address) => address.to_string(),
        None => path.to_str().ok_or("a path in UTF-8")?.to_owned(),
    };
    Ok((listener, own))
}
