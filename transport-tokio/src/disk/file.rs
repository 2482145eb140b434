//! The file below the database.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek},
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
/// see [`is_unfinished`].
#[derive(Debug)]
pub(super) struct Locked {
    file: FileBackend,
    durability: Durability,
}

impl Locked {
    pub(super) fn open(path: &Path, durability: Durability) -> Result<Self, SessionFileError> {
        let (mut file, created) = open_or_create(path)?;
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
        if file.metadata()?.len() > 0 && !is_database(&mut file)? {
            if !is_unfinished(&mut file)? {
                return Err(SessionFileError::Foreign);
            }
            file.set_len(0)?;
        }
        let file = FileBackend::new(file)
            .map_err(|error| SessionFileError::from(redb::Error::from(error)))?;
        Ok(Self { file, durability })
    }
}

/// Opens a file; whether it is new.
fn open_or_create(path: &Path) -> io::Result<(File, bool)> {
    let options = || OpenOptions::new().read(true).write(true).clone();
    match options().create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok((options().open(path)?, false))
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

fn is_database(file: &mut File) -> io::Result<bool> {
    file.rewind()?;
    let mut magic = Vec::new();
    file.take(MAGIC.len() as u64).read_to_end(&mut magic)?;
    Ok(magic == MAGIC)
}

/// Whether the file is what is left when a program is killed while it creates a database: one whose
/// header has no magic number yet, which is written last, with nothing behind the header. Nothing
/// was ever kept in it.
fn is_unfinished(file: &mut File) -> io::Result<bool> {
    const HEADER: usize = 4096;
    if file.metadata()?.len() > LARGE {
        return Ok(false);
    }
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let (header, behind) = bytes.split_at(bytes.len().min(HEADER));
    let magic = header.get(..MAGIC.len()).unwrap_or(header);
    Ok(magic.iter().chain(behind).all(|byte| *byte == 0))
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
