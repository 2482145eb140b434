//! What a broker keeps, in a file.

use std::{
    fs, io,
    ops::RangeInclusive,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    time::Duration,
};

use redb::{
    Builder, Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    TableHandle,
};

use super::{Durability, SessionFileError, file};

const IDENTITY: TableDefinition<'_, &str, u32> = TableDefinition::new("broker");
const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// Memory for pages, in bytes.
const CACHE: usize = 16 << 20;

/// How often the file is tried that another program has open, which perhaps just ends, and how long
/// between.
const TRIES: usize = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// A file of records, open.
pub(crate) struct Archive {
    database: Database,
    /// There was nothing in it.
    pub(crate) is_new: bool,
    /// What its format becomes with the next batch.
    upgrade: Option<u32>,
}

/// What becomes of records, in order of the keys: bytes, or nothing.
pub(crate) type Batch = Vec<(Box<[u8]>, Option<Box<[u8]>>)>;

impl Archive {
    /// Opens a file, or creates it. Its format is to be one of these; what is written is of the last.
    ///
    /// # Errors
    ///
    /// [`SessionFileError`]; the file is as it was.
    pub(crate) fn open(
        path: &Path,
        durability: Durability,
        formats: RangeInclusive<u32>,
    ) -> Result<Self, SessionFileError> {
        let mut tries = 0;
        let backend = loop {
            match file::Locked::open(path, durability) {
                Err(SessionFileError::InUse) if tries < TRIES => tries += 1,
                opened => break opened?,
            }
            std::thread::sleep(PAUSE);
        };
        Self::with_backend(backend, formats)
    }

    /// Opens a file and reads it. One that cannot be read is given another name, which is told, and a new
    /// one is opened in its stead.
    ///
    /// # Errors
    ///
    /// [`SessionFileError`] if the file may be good, and cannot be used now.
    pub(crate) fn open_or_replace<T>(
        path: &Path,
        durability: Durability,
        formats: RangeInclusive<u32>,
        read: impl Fn(&Self) -> Result<T, SessionFileError>,
    ) -> Result<(Self, T, Option<PathBuf>), SessionFileError> {
        let open = || {
            let archive = Self::open(path, durability, formats.clone())?;
            let read = read(&archive)?;
            Ok::<_, SessionFileError>((archive, read))
        };
        // The database is not always prepared for what a damaged file has in it.
        let opened = panic::catch_unwind(AssertUnwindSafe(open));
        let opened = opened.unwrap_or_else(|_| Err(SessionFileError::Damaged("a panic".into())));
        let problem = match opened {
            Ok((archive, read)) => return Ok((archive, read, None)),
            Err(SessionFileError::Damaged(problem)) => problem,
            Err(SessionFileError::Foreign) => "it is no broker's".into(),
            Err(error) => return Err(error),
        };
        let aside = set_aside(path)?;
        let (file, aside_name) = (path.display(), aside.display());
        tracing::error!(%problem, %file, aside = %aside_name, "what was kept cannot be read: it is set aside");
        let (archive, read) = open()?;
        Ok((archive, read, Some(aside)))
    }

    pub(super) fn with_backend(
        backend: impl StorageBackend,
        formats: RangeInclusive<u32>,
    ) -> Result<Self, SessionFileError> {
        let format = *formats.end();
        file::prepare(&backend)?;
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
        let database = builder.create_with_backend(backend)?;
        let tables: Vec<_> = {
            let transaction = database.begin_read()?;
            transaction.list_tables()?.map(|table| table.name().to_owned()).collect()
        };
        if tables.is_empty() {
            let transaction = database.begin_write()?;
            transaction.open_table(IDENTITY)?.insert("format", format)?;
            transaction.open_table(RECORDS)?;
            transaction.commit()?;
            return Ok(Self { database, is_new: true, upgrade: None });
        }
        if !tables.iter().any(|table| table == IDENTITY.name()) {
            return Err(SessionFileError::Foreign);
        }
        let identity = database.begin_read()?.open_table(IDENTITY)?;
        let kept = identity.get("format")?.map(|kept| kept.value());
        match kept {
            Some(kept) if formats.contains(&kept) => {
                let upgrade = Some(format).filter(|format| *format != kept);
                Ok(Self { database, is_new: false, upgrade })
            }
            Some(kept) => Err(SessionFileError::Format(kept)),
            None => Err(SessionFileError::Foreign),
        }
    }

    /// Gives everything that is in it to `each`, in the order of the keys.
    ///
    /// # Errors
    ///
    /// [`SessionFileError`] at the first thing that cannot be read.
    pub(crate) fn read(&self, mut each: impl FnMut(&[u8], &[u8])) -> Result<(), SessionFileError> {
        let table = self.database.begin_read()?.open_table(RECORDS)?;
        for entry in table.iter()? {
            let (key, value) = entry?;
            each(key.value(), value.value());
        }
        Ok(())
    }

    /// Saves a batch, all or none. Blocks.
    ///
    /// # Errors
    ///
    /// [`SessionFileError`]: nothing more can be saved before it is opened again.
    pub(crate) fn commit(&mut self, batch: &Batch) -> Result<(), SessionFileError> {
        let transaction = self.database.begin_write()?;
        let mut table = transaction.open_table(RECORDS)?;
        for (key, record) in batch {
            match record {
                Some(record) => table.insert(&**key, &**record).map(drop)?,
                None => table.remove(&**key).map(drop)?,
            }
        }
        drop(table);
        if let Some(format) = self.upgrade {
            transaction.open_table(IDENTITY)?.insert("format", format)?;
        }
        transaction.commit()?;
        self.upgrade = None;
        Ok(())
    }
}

/// Gives a file another name, which no other has.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    for number in 1_u32.. {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".corrupt-{number}"));
        let aside = path.with_file_name(name);
        if !aside.try_exists()? {
            fs::rename(path, &aside)?;
            return Ok(aside);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
