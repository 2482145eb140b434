//! A file in memory that remembers how it was written.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use redb::StorageBackend;

/// What was done to a file.
#[derive(Clone, Debug)]
pub(super) enum Io {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

impl Io {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => {
                let end = *offset as usize + bytes.len();
                image.resize(image.len().max(end), 0);
                image[*offset as usize..end].copy_from_slice(bytes);
            }
            Self::SetLen(len) => image.resize(*len as usize, 0),
            Self::Sync => {}
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Memory(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    image: Vec<u8>,
    log: Vec<Io>,
    /// After so many writes, none succeeds.
    writes_left: usize,
}

impl Memory {
    pub(super) fn new(image: Vec<u8>) -> Self {
        let state = State { image, log: Vec::new(), writes_left: usize::MAX };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn image(&self) -> Vec<u8> {
        self.state().image.clone()
    }

    pub(super) fn log(&self) -> Vec<Io> {
        self.state().log.clone()
    }

    pub(super) fn fail_after(&self, writes: usize) {
        self.state().writes_left = writes;
    }

    fn change(&self, io: Io) -> io::Result<()> {
        let mut state = self.state();
        let left = state.writes_left.checked_sub(1);
        state.writes_left = left.ok_or_else(|| io::Error::other("no more"))?;
        io.apply(&mut state.image);
        state.log.push(io);
        Ok(())
    }
}

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().image.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let from = state.image.get(offset as usize..).and_then(|from| from.get(..out.len()));
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Io::SetLen(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(Io::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Io::Write(offset, data.to_vec()))
    }
}

/// What may be on the disk when power is lost after these: all up to the last sync and, of what came
/// after it, all; nothing; all but one; one alone; any, each torn at any sector.
pub(super) fn cuts(log: &[Io], seed: u64) -> Vec<(String, Vec<u8>)> {
    let synced = log.iter().rposition(|io| matches!(io, Io::Sync)).map_or(0, |at| at + 1);
    let (synced, pending) = log.split_at(synced);
    let mut base = Vec::new();
    synced.iter().for_each(|io| io.apply(&mut base));
    let some = |keep: &dyn Fn(usize) -> bool| {
        let mut image = base.clone();
        let kept = pending.iter().enumerate().filter(|(at, _)| keep(*at));
        kept.for_each(|(_, io)| io.apply(&mut image));
        image
    };
    let mut cuts = vec![("with all".to_owned(), some(&|_| true))];
    if !pending.is_empty() {
        cuts.push(("with nothing".to_owned(), base.clone()));
    }
    if pending.len() > 1 {
        for one in 0..pending.len() {
            cuts.push((format!("without {one}"), some(&|at| at != one)));
            cuts.push((format!("with {one} alone"), some(&|at| at == one)));
        }
    }
    let mut random = seed << 32 | log.len() as u64 | 1;
    for turn in 0..3 {
        let mut image = base.clone();
        for io in pending {
            tear(io, &mut random, &mut image);
        }
        cuts.push((format!("torn {turn}"), image));
    }
    cuts
}

/// Writes some sectors.
fn tear(io: &Io, random: &mut u64, image: &mut Vec<u8>) {
    const SECTOR: usize = 512;
    let Io::Write(offset, bytes) = io else { return io.apply(image) };
    let mut at = 0;
    while at < bytes.len() {
        let end = ((*offset as usize + at) / SECTOR + 1) * SECTOR - *offset as usize;
        let end = end.min(bytes.len());
        // xorshift
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        if !random.is_multiple_of(3) {
            Io::Write(offset + at as u64, bytes[at..end].to_vec()).apply(image);
        }
        at = end;
    }
}
