//! A wire that can be cut after any byte.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

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
    budget: Arc<Mutex<Budget>>,
}

impl Proxy {
    pub(crate) fn start(target: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let budget = Arc::new(Mutex::new(Budget::ALL));
        let (target, shared) = (target.to_owned(), Arc::clone(&budget));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let budget = *shared.lock().unwrap();
                // A connection that fails is a cut like any other.
                let _ = carry(client, &target, budget);
            }
        });
        Ok(Self { address, budget })
    }

    /// What the connections from now on carry.
    pub(crate) fn set(&self, budget: Budget) {
        *self.budget.lock().unwrap() = budget;
    }
}

fn carry(client: TcpStream, target: &str, budget: Budget) -> std::io::Result<()> {
    let server = TcpStream::connect(target)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from, to) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || copy(from, to, budget.up));
    thread::spawn(move || copy(server, client, budget.down));
    Ok(())
}

/// Copies so many bytes, then cuts both ways.
fn copy(mut from: TcpStream, mut to: TcpStream, mut budget: usize) {
    let mut chunk = [0; 4096];
    while budget > 0 {
        let len = chunk.len().min(budget);
        match from.read(&mut chunk[..len]) {
            Ok(count) if count > 0 && to.write_all(&chunk[..count]).is_ok() => budget -= count,
            _ => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
