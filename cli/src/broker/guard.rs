//! Who may connect, and what they may do, by files that may be read again.

use std::{
    path::PathBuf,
    sync::{Arc, RwLock},
    thread,
};

use tokio::{sync::Semaphore, task};
use transport_tokio::{
    ReasonCode,
    broker::{Access, Login},
};

use super::{acl::Acl, passwords::Passwords, settings::Plan};
use crate::failure::Failure;

/// A file, and what it said when it last made sense.
#[derive(Debug)]
struct Current<T> {
    path: PathBuf,
    value: RwLock<Arc<T>>,
}

impl<T> Current<T> {
    fn read(
        path: &Option<PathBuf>,
        read: impl FnOnce(&PathBuf) -> Result<T, Failure>,
    ) -> Result<Option<Self>, Failure> {
        let Some(path) = path else { return Ok(None) };
        Ok(Some(Self { path: path.clone(), value: RwLock::new(Arc::new(read(path)?)) }))
    }

    fn get(&self) -> Arc<T> {
        let value = self.value.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        Arc::clone(&value)
    }

    fn set(&self, value: T) {
        *self.value.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(value);
    }
}

/// Decides.
#[derive(Debug)]
pub(super) struct Guard {
    passwords: Option<Current<Passwords>>,
    acl: Option<Current<Acl>>,
    allows_anonymous: bool,
    /// For each password that is looked at: that takes time and memory, on purpose.
    turns: Arc<Semaphore>,
}

impl Guard {
    pub(super) fn new(plan: &Plan) -> Result<Self, Failure> {
        let settings = &plan.settings;
        let passwords = Current::read(&settings.password_file, |path| Passwords::read(path));
        let passwords = passwords.map_err(|error| plan.wrong("password-file", error.message))?;
        let knows_names = passwords.is_some();
        let acl = Current::read(&settings.acl_file, |path| Acl::read(path, knows_names));
        let acl = acl.map_err(|error| plan.wrong("acl-file", error.message))?;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let turns = Arc::new(Semaphore::new(cores));
        Ok(Self { passwords, acl, allows_anonymous: plan.allows_anonymous(), turns })
    }

    pub(super) const fn asks_who(&self) -> bool {
        self.passwords.is_some() || !self.allows_anonymous
    }

    pub(super) const fn asks_what(&self) -> bool {
        self.acl.is_some()
    }

    /// Reads the files again. One that makes no sense changes nothing.
    pub(super) fn reload(&self) {
        if let Some(passwords) = &self.passwords {
            match Passwords::read(&passwords.path) {
                Ok(value) => {
                    passwords.set(value);
                    tracing::info!("the passwords have been read again");
                }
                Err(error) => tracing::error!("{}; the passwords stay as they were", error.message),
            }
        }
        if let Some(acl) = &self.acl {
            match Acl::read(&acl.path, self.passwords.is_some()) {
                Ok(value) => {
                    acl.set(value);
                    tracing::info!("the ACL has been read again");
                }
                Err(error) => tracing::error!("{}; the ACL stays as it was", error.message),
            }
        }
    }

    /// Whether a client may connect.
    pub(super) async fn admit(&self, login: Login) -> Result<(), ReasonCode> {
        let refusal = Err(ReasonCode::BadUserNameOrPassword);
        let Some(name) = login.user_name else {
            return if self.allows_anonymous { Ok(()) } else { Err(ReasonCode::NotAuthorized) };
        };
        let Some(passwords) = &self.passwords else {
            return refusal; // nobody has a name here
        };
        let passwords = passwords.get();
        let given = login.password.unwrap_or_default();
        let Ok(turn) = Arc::clone(&self.turns).acquire_owned().await else { return refusal };
        let same = task::spawn_blocking(move || {
            let same = passwords.verify(&name, &given);
            drop(turn); // whoever asked may no longer wait
            same
        });
        if same.await.is_ok_and(|same| same) { Ok(()) } else { refusal }
    }

    /// Whether a client may publish or subscribe.
    pub(super) fn allows(&self, access: &Access<'_>) -> bool {
        self.acl.as_ref().is_none_or(|acl| acl.get().allows(access))
    }
}
