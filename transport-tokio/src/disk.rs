//! The session in a file.

use std::{collections::BTreeSet, error, fmt, fs, io, path::PathBuf};

use mqtt_core::{PacketId, Version};
use redb::{
    Builder, Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    StorageError, TableDefinition, TableHandle, WriteTransaction,
};

use crate::kept::{Change, Changes, Restored, Table};
pub(crate) use archive::{Archive, Batch};
use file::Locked;
use records::{Problem, Record};

mod archive;
mod file;
mod records;
#[cfg(test)]
mod tests;

/// A file that keeps the session, so that it survives the program.
///
/// | | program killed | power lost |
/// |---|---|---|
/// | [`Durability::Power`] | nothing is lost | nothing is lost |
/// | [`Durability::Process`] | nothing is lost | the file may be older, or damaged and refused |
///
/// # What is kept
///
/// Publishes at QoS 1 and 2 from the moment at which they are accepted, those that wait for a
/// connection too, until the server has acknowledged them; how far each has come; and which
/// messages at QoS 2 have been received, so that they are not delivered again. Nothing is sent
/// before that which it follows from is in the file. After a restart everything goes on in its
/// order, if the server still has the session; if not, as after any session that is lost.
///
/// Not kept: publishes at QoS 0; subscriptions, which the server keeps; received messages. A
/// message that was delivered, but not acknowledged to the server when the program ended, is
/// delivered to the next one again, at QoS 2 too: the file cannot know whether the program had
/// finished with it. Nor are the outcomes of publishes: nobody is left who waits for them.
///
/// # What it costs
///
/// What happens while a commit is under way is in the next one. A commit is six or more writes, 20
/// KB at least, and with [`Durability::Power`] one `fdatasync`: some milliseconds. One of 100
/// messages takes hardly longer than one of a single message. So a publish takes as much longer as
/// a commit takes, and many at a time have nearly the throughput that they have without a file.
/// PUBACKs and PUBCOMPs that arrive cause no commit of their own: if the program is killed before
/// the next, some publishes are sent again, which QoS 1 allows and QoS 2 resolves.
///
/// A new file has 1 MiB; a full one is doubled, as a sparse file if the file system has any. A
/// message takes its own length and 20 bytes if it is short, up to twice its length from 1 KB on.
/// The room of finished messages is used again; a file of more than 8 MiB of which less than a
/// quarter is in use is made smaller when it is opened. Opening reads and verifies the whole of
/// what is in it.
///
/// One program at a time can open a file, and it belongs to one client identifier and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFile {
    /// Where it is. It is created if there is none, for its owner alone to read; its directory must
    /// be there.
    pub path: PathBuf,
    /// What it survives.
    pub durability: Durability,
}

impl SessionFile {
    /// A file that survives the loss of power.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), durability: Durability::Power }
    }
}

/// What a [`SessionFile`] survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of the program, however sudden, and of the machine: every commit waits until the
    /// disk says that it has it.
    #[default]
    Power,
    /// The end of the program, however sudden. What was written is with the operating system: some
    /// thirty times faster, and wrong if the machine stops before all of it is on the disk.
    Process,
}

/// A [`SessionFile`] cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionFileError {
    /// It cannot be read or written.
    Io(io::Error),
    /// It is open already, here or in another program.
    InUse,
    /// It is something else, and has not been touched.
    Foreign,
    /// It was made by a version of this crate that writes it differently.
    Format(u32),
    /// It is the session of this client identifier.
    OtherClient(String),
    /// It is a session of another version of the protocol.
    OtherVersion,
    /// A session without a client identifier cannot be resumed.
    NoClientId,
    /// More is in flight than [`Options::in_flight`](crate::Options::in_flight) allows.
    TooLarge,
    /// It is damaged: what the database says.
    Damaged(String),
    /// It is intact, but this record cannot have been written by this crate.
    Record {
        /// The table.
        table: &'static str,
        /// The record's key.
        key: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl fmt::Display for SessionFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the session file cannot be read or written: {error}"),
            Self::InUse => f.write_str("the session file is in use"),
            Self::Foreign => f.write_str("the file is not a session file"),
            Self::Format(format) => write!(f, "the session file has the unknown format {format}"),
            Self::OtherClient(id) => write!(f, "the session file belongs to the client {id:?}"),
            Self::OtherVersion => f.write_str("the session file has another protocol version"),
            Self::NoClientId => f.write_str("a session file needs a client identifier"),
            Self::TooLarge => f.write_str("the session file has more than may be in flight"),
            Self::Damaged(problem) => write!(f, "the session file is damaged: {problem}"),
            Self::Record { table, key, problem } => {
                write!(f, "the session file has a bad record, {key} in {table}: {problem}")
            }
        }
    }
}

impl error::Error for SessionFileError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for SessionFileError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<redb::Error> for SessionFileError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => Self::Io(error),
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::Corrupted(problem) => Self::Damaged(problem),
            error => Self::Damaged(error.to_string()),
        }
    }
}

/// For `?` on each of the database's errors.
macro_rules! from_database {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for SessionFileError {
            fn from(error: redb::$error) -> Self {
                redb::Error::from(error).into()
            }
        })*
    };
}
from_database!(
    CompactionError,
    DatabaseError,
    TransactionError,
    TableError,
    StorageError,
    CommitError
);

const IDENTITY: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("identity");
const SENDING: TableDefinition<'_, u16, &[u8]> = TableDefinition::new("sending");
const ARRIVALS: TableDefinition<'_, u16, &[u8]> = TableDefinition::new("arrivals");
const QUEUE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("queue");

/// The format of the records.
const FORMAT: u32 = 1;

/// Memory for pages, in bytes: little is read again, and the operating system has it.
const CACHE: usize = 1 << 20;

/// A file with more bytes than this, and more than four times what is in it, is made smaller.
const LARGE: u64 = 8 << 20;

/// An open [`SessionFile`].
pub(crate) struct Disk {
    database: Database,
    /// The file lacks changes, so that no others may follow.
    failed: bool,
}

impl Disk {
    /// Opens a file, or creates it, and reads all that is in it.
    ///
    /// # Errors
    ///
    /// [`SessionFileError`]; what the file keeps is as it was.
    pub(crate) fn open(
        file: &SessionFile,
        client_id: &str,
        version: Version,
    ) -> Result<(Self, Restored), SessionFileError> {
        if client_id.is_empty() {
            return Err(SessionFileError::NoClientId);
        }
        let backend = Locked::open(&file.path, file.durability)?;
        let (mut disk, restored) = Self::with_backend(backend, client_id, version)?;
        let len = fs::metadata(&file.path)?.len();
        if len > LARGE && len / 4 > restored.len() as u64 {
            disk.database.compact()?;
        }
        Ok((disk, restored))
    }

    fn with_backend(
        backend: impl StorageBackend,
        client_id: &str,
        version: Version,
    ) -> Result<(Self, Restored), SessionFileError> {
        file::prepare(&backend)?;
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
        let database = builder.create_with_backend(backend)?;
        identify(&database, client_id, version)?;
        let transaction = database.begin_read()?;
        let restored = restore(&transaction, version)?;
        Ok((Self { database, failed: false }, restored))
    }

    /// Makes the changes durable, all or none. Blocks.
    ///
    /// # Errors
    ///
    /// [`SessionFileError`]: the file has all of the changes or none, and gets no others; what
    /// was written because of them is not to be sent.
    pub(crate) fn commit(&mut self, changes: &Changes) -> Result<(), SessionFileError> {
        if self.failed {
            return Err(StorageError::PreviousIo.into());
        }
        self.failed = true;
        let transaction = self.database.begin_write()?;
        apply(&transaction, SENDING, &changes.sending, PacketId::get)?;
        apply(&transaction, ARRIVALS, &changes.arrivals, PacketId::get)?;
        apply(&transaction, QUEUE, &changes.queue, |number| number)?;
        transaction.commit()?;
        self.failed = false;
        Ok(())
    }
}

fn apply<C: Copy + Ord, K: Key + for<'k> redb::Value<SelfType<'k> = K>, V: Record>(
    transaction: &WriteTransaction,
    table: TableDefinition<'_, K, &[u8]>,
    changes: &Table<C, V>,
    key: fn(C) -> K,
) -> Result<(), SessionFileError> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut table = transaction.open_table(table)?;
    for (changed, change) in changes.iter() {
        match change {
            Change::Put { value, .. } => {
                value.write(table.insert_reserve(key(changed), value.len())?.as_mut());
            }
            Change::Delete => {
                table.remove(key(changed))?;
            }
        }
    }
    Ok(())
}

/// Makes sure that the file is ours and this client's; makes it so if it is new.
fn identify(
    database: &Database,
    client_id: &str,
    version: Version,
) -> Result<(), SessionFileError> {
    let identity: [(&str, &[u8]); 3] = [
        ("format", &FORMAT.to_be_bytes()),
        ("client", client_id.as_bytes()),
        ("version", &[records::version_number(version)]),
    ];
    let tables = BTreeSet::from_iter(
        database.begin_read()?.list_tables()?.map(|table| table.name().to_owned()),
    );
    if tables.is_empty() {
        let transaction = database.begin_write()?;
        let mut table = transaction.open_table(IDENTITY)?;
        for (key, value) in identity {
            table.insert(key, value)?;
        }
        drop(table);
        transaction.open_table(SENDING)?;
        transaction.open_table(ARRIVALS)?;
        transaction.open_table(QUEUE)?;
        transaction.commit()?;
        return Ok(());
    }
    if !tables.contains(IDENTITY.name()) {
        return Err(SessionFileError::Foreign);
    }
    let table = database.begin_read()?.open_table(IDENTITY)?;
    for (key, ours) in identity {
        let kept = table.get(key)?.ok_or(SessionFileError::Foreign)?;
        let kept = kept.value();
        if kept != ours {
            return Err(match key {
                "format" => match kept.try_into() {
                    Ok(format) => SessionFileError::Format(u32::from_be_bytes(format)),
                    Err(_) => SessionFileError::Foreign,
                },
                "client" => {
                    SessionFileError::OtherClient(String::from_utf8_lossy(kept).into_owned())
                }
                _ => SessionFileError::OtherVersion,
            });
        }
    }
    Ok(())
}

/// Reads everything. Nothing is believed that this crate cannot have written.
fn restore(transaction: &ReadTransaction, version: Version) -> Result<Restored, SessionFileError> {
    let sending = |key, value: &[u8]| records::read_sending(version, key, value);
    let mut sending = read(transaction, SENDING, u64::from, sending)?;
    sending.sort_by_key(|(_, sending)| sending.order);
    if let Some([_, (id, _)]) =
        sending.array_windows().find(|[(_, one), (_, next)]| one.order == next.order)
    {
        return Err(bad(SENDING, id.get().into(), "its order is another's, too"));
    }
    let arrivals = |key, value: &[u8]| records::read_arrival(version, key, value);
    let arrivals = read(transaction, ARRIVALS, u64::from, arrivals)?;
    let queue = |key, value: &[u8]| records::read_queued(version, key, value);
    let queue = read(transaction, QUEUE, |key| key, queue)?;
    Ok(Restored { sending, arrivals, queue })
}

/// Reads a table, in the order of its keys.
fn read<K: Copy + Key + for<'k> redb::Value<SelfType<'k> = K>, T>(
    transaction: &ReadTransaction,
    table: TableDefinition<'_, K, &[u8]>,
    number: fn(K) -> u64,
    record: impl Fn(K, &[u8]) -> Result<T, Problem>,
) -> Result<Vec<T>, SessionFileError> {
    let mut records = Vec::new();
    for entry in transaction.open_table(table)?.iter()? {
        let (key, value) = entry?;
        let key = key.value();
        let value = record(key, value.value());
        records.push(value.map_err(|problem| bad(table, number(key), problem))?);
    }
    Ok(records)
}

fn bad(table: impl TableHandle, key: u64, problem: Problem) -> SessionFileError {
    let table = match table.name() {
        "sending" => "sending",
        "arrivals" => "arrivals",
        _ => "queue",
    };
    SessionFileError::Record { table, key, problem }
}
