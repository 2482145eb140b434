//! The file below the database.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::Path,
};

use redb::{StorageBackend, backends::FileBackend};

use super::{Durability, SessionFileError};

/// What a database begins with.
const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";

/// The length of a file, in bytes, that cannot be one whose creation was interrupted.
const LARGE: u64 = 16 << 20;

/// A file that this program has locked.
///
/// It is locked here, before the database sees it, because something has to be done under the lock:
/// see [`prepare`].
#[derive(Debug)]
pub(super) struct Locked {
    file: FileBackend,
    durability: Durability,
}

impl Locked {
    pub(super) fn open(path: &Path, durability: Durability) -> Result<Self, SessionFileError> {
        let (file, created) = open_or_create(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SessionFileError::InUse),
            // Not every file system has locks.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        if created && durability == Durability::Power {
            sync_directory(path)?;
        }
        let file = FileBackend::new(file)
            .map_err(|error| SessionFileError::from(redb::Error::from(error)))?;
        Ok(Self { file, durability })
    }
}

/// Opens a file; whether it is new. Messages are nobody else's business: a new file can be read by
/// its owner only.
fn open_or_create(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.clone().create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok((options.open(path)?, false))
        }
        created => Ok((created?, true)),
    }
}

/// Makes the name of a new file as durable as what will be in it.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Makes sure that this is a database, or empty so that it becomes one.
///
/// When a program is killed while it creates a database, a file is left whose header has no magic
/// number yet, which is written last, and nothing behind the header. Nothing was ever kept in it:
/// it is made empty.
pub(super) fn prepare(file: &impl StorageBackend) -> Result<(), SessionFileError> {
    const HEADER: usize = 4096;
    let len = file.len()?;
    let mut bytes = vec![0; len.min(LARGE) as usize];
    let (header, behind) = bytes.split_at_mut(HEADER.min(len as usize));
    file.read(0, header)?;
    if header.is_empty() || header.starts_with(MAGIC) {
        return Ok(());
    }
    file.read(header.len() as u64, behind)?;
    let magic = header.iter().take(MAGIC.len());
    if len > LARGE || magic.chain(&*behind).any(|byte| *byte != 0) {
        return Err(SessionFileError::Foreign);
    }
    Ok(file.set_len(0)?)
}

/// Without the methods that lock.
impl StorageBackend for Locked {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.durability {
            Durability::Power => self.file.sync_data(),
            Durability::Process => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
