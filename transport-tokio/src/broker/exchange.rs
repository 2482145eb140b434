//! Enhanced authentication: several steps, by a function of the program.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use mqtt_core::ReasonCode;
use tokio::{sync::mpsc, task::JoinSet, time};

use super::access::{Authenticated, Login};

/// One client's authentication by a [method](super::Builder::authentication_method), step by step.
///
/// It is dropped when the client hangs up or takes too long for a step.
pub struct Exchange {
    login: Login,
    is_again: bool,
    data: Option<Vec<u8>>,
    steps: mpsc::Sender<Vec<u8>>,
    answers: mpsc::Receiver<Option<Vec<u8>>>,
}

impl Exchange {
    /// Who wants to be authenticated; without a password, when it is for the second time.
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// Whether the client had been let in already, and authenticates anew on the same connection.
    pub fn is_again(&self) -> bool {
        self.is_again
    }

    /// What the client has said last: with CONNECT, or in answer to the last challenge.
    pub fn data(&self) -> Option<&[u8]> {
        self.data.as_deref()
    }

    /// Sends the client a challenge, and waits for its answer: the [`data`](Self::data) from then on.
    ///
    /// # Errors
    ///
    /// [`ReasonCode::NotAuthorized`] if there is nobody to answer, which ends the exchange, too.
    pub async fn challenge(
        &mut self,
        data: impl Into<Vec<u8>>,
    ) -> Result<Option<&[u8]>, ReasonCode> {
        let gone = ReasonCode::NotAuthorized;
        self.steps.send(data.into()).await.map_err(|_| gone)?;
        self.data = self.answers.recv().await.ok_or(gone)?;
        Ok(self.data.as_deref())
    }
}

/// Without what is said.
impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("login", &self.login)
            .field("is_again", &self.is_again)
            .finish_non_exhaustive()
    }
}

/// What an exchange comes to.
type Conducting = Pin<Box<dyn Future<Output = Result<Authenticated, ReasonCode>> + Send>>;

/// A function that conducts exchanges.
pub(super) type Conduct = dyn Fn(Exchange) -> Conducting + Send + Sync;

/// An exchange, from the side of its connection. Dropped, it ends.
pub(super) struct Talk {
    task: JoinSet<Result<Authenticated, ReasonCode>>,
    steps: mpsc::Receiver<Vec<u8>>,
    answers: mpsc::Sender<Option<Vec<u8>>>,
}

/// What has been found out about a client.
pub(super) enum Decision {
    Known(Result<Authenticated, ReasonCode>),
    /// It is to answer this first.
    Challenge(Vec<u8>, Talk),
}

/// What is being found out. It takes no longer than it may.
pub(super) type Deciding = Pin<Box<dyn Future<Output = Decision> + Send>>;

impl Talk {
    /// Begins an exchange, in a task by itself: it may take long, or panic.
    pub(super) fn begin(
        conduct: &Arc<Conduct>,
        login: Login,
        is_again: bool,
        data: Option<&[u8]>,
    ) -> Self {
        let (steps, coming) = mpsc::channel(1);
        let (answers, answered) = mpsc::channel(1);
        let data = data.map(<[u8]>::to_vec);
        let exchange = Exchange { login, is_again, data, steps, answers: answered };
        let conduct = Arc::clone(conduct);
        let mut task = JoinSet::new();
        task.spawn(async move { conduct(exchange).await });
        Self { task, steps: coming, answers }
    }

    /// The client has answered.
    pub(super) fn answer(&self, data: Option<&[u8]>) {
        // It awaits one answer at a time; one that is over is found out next.
        let _ = self.answers.try_send(data.map(<[u8]>::to_vec));
    }

    /// Awaits the next step, or the end.
    pub(super) fn next(mut self, patience: Duration) -> Deciding {
        Box::pin(async move {
            let next = async {
                tokio::select! {
                    biased;
                    Some(step) = self.steps.recv() => Ok(step),
                    over = self.task.join_next() => Err(over),
                }
            };
            match time::timeout(patience, next).await {
                Ok(Ok(step)) => Decision::Challenge(step, self),
                Ok(Err(Some(Ok(known)))) => Decision::Known(known),
                Ok(Err(_)) => Decision::Known(Err(ReasonCode::UnspecifiedError)),
                Err(_) => Decision::Known(Err(ReasonCode::ServerBusy)),
            }
        })
    }
}
