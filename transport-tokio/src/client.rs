//! The handle.

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use mqtt_core::{Limits, QoS, ReasonCode, TopicError};
use tokio::sync::watch;

use crate::{
    commit::Committer,
    driver::{Driver, Task},
    error::{ConnectError, ConnectionError, SubscribeError},
    message::Message,
    options::Options,
    publish::Publish,
    request::Requester,
    routes::{Interest, local},
    shared::Shared,
    state::{CLOSING, Closing},
    status::{Counters, Status},
    stream::{Messages, Subscribe, listen},
    transport::{Connector, Dialer, Endpoint},
};

/// A client's handle: cheap to clone, to be used from any task and thread.
///
/// One task does the IO, [spawned](Self::connect) or [polled by the caller](Self::new); nothing
/// stalls because a handle is not used. When the last handle and the last stream are gone, the client
/// sends what was accepted and disconnects, if the runtime lasts so long: a program that ends calls
/// [`disconnect`](Self::disconnect).
///
/// ```no_run
/// use transport_tokio::{Client, Options, QoS};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let options = Options { client_id: "sensor-7".into(), ..Options::default() };
/// let client = Client::connect("mqtt://127.0.0.1:1883", options).await?;
/// let mut readings = client.subscribe("sensors/+/temperature", QoS::AtLeastOnce).await?;
/// client.publish("valve/3", "open").qos(QoS::ExactlyOnce).await?;
/// while let Some(message) = readings.next().await {
///     println!("{} {:?}", message.topic, message.payload);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

impl Client {
    /// Connects to a server by its URL, and spawns the task that does the IO.
    ///
    /// Returns when the first connection has been accepted. See [`transport`](crate::transport) for the
    /// URLs there are.
    ///
    /// What a resumed session holds arrives at once, before anything can be subscribed to: its streams
    /// are to be declared in [`Options::streams`], or it is acknowledged unread.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if the URL or the options make no sense, or the first connection fails: with
    /// [`retry_first`](Options::retry_first) only if it fails for good.
    ///
    /// ```
    /// # use transport_tokio::{Client, ConnectError, ConnectionError, Options};
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let error = Client::connect("mqtt://127.0.0.1:1", Options::default()).await.unwrap_err();
    /// assert!(matches!(error, ConnectError::Connection(ConnectionError::Transport(_))));
    /// # });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn connect(url: &str, options: Options) -> Result<Self, ConnectError> {
        let (connector, options) = dial(url, options)?;
        Self::connect_with(connector, options).await
    }

    /// As [`connect`](Self::connect), over whatever the connector opens. The options about TLS and
    /// WebSockets are for URLs, and mean nothing here.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], as there.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), transport_tokio::ConnectError> {
    /// use transport_tokio::{Client, Options};
    ///
    /// let modem = || tokio::net::TcpStream::connect("127.0.0.1:1883"); // or anything else
    /// let client = Client::connect_with(modem, Options::default()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect_with(
        connector: impl Connector + 'static,
        options: Options,
    ) -> Result<Self, ConnectError> {
        let (client, driver) = Self::with_connector(connector, options)?;
        tokio::spawn(driver);
        client.first_connection().await?;
        Ok(client)
    }

    /// A client and the [`Driver`] that does its IO, to be polled by the caller. Nothing has
    /// happened yet: what is published before the first connection waits for it.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Endpoint`] if the URL makes no sense, [`ConnectionError::Options`] if the options
    /// make none; `ConnectionError::SessionFile` if its file cannot be used. Reading that blocks.
    pub fn new(url: &str, options: Options) -> Result<(Self, Driver), ConnectError> {
        let (connector, options) = dial(url, options)?;
        Self::with_connector(connector, options)
    }

    /// As [`new`](Self::new), over whatever the connector opens.
    ///
    /// # Errors
    ///
    /// [`ConnectionError::Options`] if the options make no sense; `ConnectionError::SessionFile` if its
    /// file cannot be used. Reading that blocks.
    pub fn with_connector(
        connector: impl Connector + 'static,
        mut options: Options,
    ) -> Result<(Self, Driver), ConnectError> {
        options.check().map_err(ConnectionError::Options)?;
        let (committer, store, restored) = Committer::open(&options)?;
        let shared = Shared::new(&options, store, restored);
        let client = Self::handle(&shared); // before the streams, some of which may be gone already
        std::mem::take(&mut options.streams).attach(&shared);
        let task = Task::new(shared, Box::new(connector), options, committer);
        Ok((client, Driver::new(task)))
    }

    fn handle(shared: &Arc<Shared>) -> Self {
        shared.with(|state| state.handles += 1);
        Self { shared: Arc::clone(shared) }
    }

    /// Resolves when there is a connection, at once if there is one.
    ///
    /// # Errors
    ///
    /// [`ConnectionError`] if there will be none any more.
    pub async fn connected(&self) -> Result<(), ConnectionError> {
        self.settled(|status| matches!(status, Status::Connected { .. })).await
    }

    /// Resolves when there has been a connection, however short.
    async fn first_connection(&self) -> Result<(), ConnectionError> {
        self.settled(|_| self.counters().connections > 0).await
    }

    /// Resolves when it is so, unless the client ends before.
    async fn settled(&self, so: impl Fn(&Status) -> bool) -> Result<(), ConnectionError> {
        let mut status = self.shared.status.subscribe();
        let settled = |status: &Status| status.is_final() || so(status);
        let Ok(status) = status.wait_for(settled).await else {
            return Err(ConnectionError::Closed); // never: the sender is here
        };
        match &*status {
            Status::Closed => Err(ConnectionError::Closed),
            status => status.result(),
        }
    }

    /// A message to be published, when it is awaited: see [`Publish`].
    ///
    /// # Errors
    ///
    /// Awaiting it gives [`PublishError`](crate::PublishError).
    ///
    /// ```no_run
    /// # async fn example(client: transport_tokio::Client) {
    /// use transport_tokio::{Invalid, PublishError, TopicError};
    ///
    /// let result = client.publish("sensors/#", "21.5").await;
    /// assert_eq!(result, Err(PublishError::Invalid(Invalid::Topic(TopicError::Wildcard))));
    /// # }
    /// ```
    pub fn publish<'a>(
        &'a self,
        topic: impl Into<Cow<'a, str>>,
        payload: impl Into<Bytes>,
    ) -> Publish<'a> {
        Publish::new(&self.shared, topic.into(), payload.into())
    }

    /// A subscription to be made, when it is awaited: see [`Subscribe`].
    ///
    /// # Errors
    ///
    /// Awaiting it gives [`SubscribeError`]: the filter is none, or the server
    /// refuses it.
    ///
    /// ```no_run
    /// # async fn example(client: transport_tokio::Client) {
    /// use transport_tokio::{QoS, SubscribeError};
    ///
    /// match client.subscribe("secrets/#", QoS::AtLeastOnce).await {
    ///     Ok(_) => {}
    ///     Err(SubscribeError::Refused(refusal)) => eprintln!("{refusal}"),
    ///     Err(error) => eprintln!("{error}"),
    /// }
    /// # }
    /// ```
    pub fn subscribe(&self, filter: &str, qos: QoS) -> Subscribe<'_> {
        Subscribe::new(&self.shared, filter, qos)
    }

    /// Subscribes and calls a function for each message, in a task of its own, until the subscription
    /// ends or the task is aborted. Dropping the task's handle lets it go on, and the client with it; a
    /// function that panics ends it.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`], as [`subscribe`](Self::subscribe).
    ///
    /// ```no_run
    /// # async fn example(client: transport_tokio::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// # use transport_tokio::QoS;
    /// let callback = client.on("alarms/#", QoS::AtLeastOnce, |message| {
    ///     println!("{}", message.topic);
    /// }).await?;
    /// callback.abort(); // unsubscribes
    /// # Ok(())
    /// # }
    /// ```
    pub async fn on(
        &self,
        filter: &str,
        qos: QoS,
        mut callback: impl FnMut(Message) + Send + 'static,
    ) -> Result<tokio::task::JoinHandle<()>, SubscribeError> {
        let mut messages = self.subscribe(filter, qos).await?;
        Ok(tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                callback(message);
            }
        }))
    }

    /// Subscribes to a topic for responses, which should be this client's alone; MQTT 5.0 only. See
    /// [`Requester`].
    ///
    /// # Errors
    ///
    /// [`SubscribeError`], as [`subscribe`](Self::subscribe).
    pub async fn requester(&self, response_topic: &str) -> Result<Requester, SubscribeError> {
        Requester::new(self, response_topic).await
    }

    /// The answer to a request, to be published when it is awaited. `None` if the message does not ask
    /// for any.
    ///
    /// ```no_run
    /// # async fn example(client: transport_tokio::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// # use transport_tokio::QoS;
    /// let mut requests = client.subscribe("lamps/7/state", QoS::AtLeastOnce).await?;
    /// while let Some(request) = requests.next().await {
    ///     if let Some(response) = client.respond(&request, "on") {
    ///         response.qos(QoS::AtLeastOnce).await?;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn respond<'a>(
        &'a self,
        request: &'a Message,
        payload: impl Into<Bytes>,
    ) -> Option<Publish<'a>> {
        let properties = request.properties();
        let response = self.publish(properties.response_topic.as_deref()?, payload);
        Some(match &properties.correlation_data {
            Some(data) => response.correlation_data(data.clone()),
            None => response,
        })
    }

    /// The client identifier that the server has chosen (5.0), if it had to.
    pub fn assigned_client_identifier(&self) -> Option<String> {
        self.shared.with(|state| state.assigned.as_deref().map(String::from))
    }

    /// What the server has told that it takes; without a connection, and before 5.0, nothing is limited.
    pub fn limits(&self) -> Limits {
        self.shared.with(|state| state.machine.limits())
    }

    /// Seconds of keep alive, as agreed with the server.
    pub fn keep_alive(&self) -> u16 {
        self.shared.with(|state| state.machine.keep_alive())
    }

    /// What the server has told as the basis for response topics (5.0).
    pub fn response_information(&self) -> Option<String> {
        self.shared.with(|state| state.response_information.as_deref().map(String::from))
    }

    /// A stream of the messages that match a filter, without subscribing to it: of those that arrive
    /// anyway, each as often as it arrives. `#` is all but those whose topics begin with `$`.
    ///
    /// # Errors
    ///
    /// [`TopicError`] if it is no filter.
    pub fn listen(&self, filter: &str) -> Result<Messages, TopicError> {
        mqtt_core::Filter::new(filter)?;
        Ok(listen(&self.shared, Interest::Filters(vec![local(filter).into()])))
    }

    /// A stream of the messages that no other stream reads: subscriptions of earlier programs whose
    /// session is resumed, and what servers send unasked. Without it they are acknowledged and
    /// [counted](Counters::unclaimed).
    pub fn unclaimed(&self) -> Messages {
        listen(&self.shared, Interest::Unclaimed)
    }

    /// How the connection stands, now and whenever it changes, until it [is final](Status::is_final).
    ///
    /// ```no_run
    /// # async fn example(client: transport_tokio::Client) {
    /// use transport_tokio::Status;
    ///
    /// let mut status = client.status();
    /// while status.changed().await.is_ok() {
    ///     match &*status.borrow_and_update() {
    ///         Status::Connected { session_present, .. } => println!("connected {session_present}"),
    ///         Status::Reconnecting { attempt, cause, .. } => println!("{attempt}: {cause}"),
    ///         last if last.is_final() => break,
    ///         other => println!("{other:?}"),
    ///     }
    /// }
    /// # }
    /// ```
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// What has happened so far.
    pub fn counters(&self) -> Counters {
        self.shared.with(|state| state.counters())
    }

    /// Ends the client: accepts nothing more, waits up to ten seconds for the outcomes of what it has
    /// accepted, and disconnects. See [`disconnect_with`](Self::disconnect_with).
    ///
    /// # Errors
    ///
    /// [`Unfinished`] if some outcomes had not come by then. With a session file, these messages are
    /// kept.
    pub async fn disconnect(&self) -> Result<(), Unfinished> {
        self.disconnect_with(Farewell::default()).await
    }

    /// Ends the client as told. Also when it has ended, or is being ended, already: then as was told
    /// first.
    ///
    /// Dropping the future does not keep the client.
    ///
    /// # Errors
    ///
    /// [`Unfinished`], as [`disconnect`](Self::disconnect).
    pub async fn disconnect_with(&self, farewell: Farewell) -> Result<(), Unfinished> {
        let Farewell { reason, session_expiry_interval, patience } = farewell;
        let until = self.shared.now() + patience.as_millis().try_into().unwrap_or(u64::MAX);
        self.shared.act(|state| {
            let closing = Closing { reason, session_expiry_interval, until };
            state.begin_to_close(closing);
        });
        let mut status = self.shared.status.subscribe();
        let _ = status.wait_for(Status::is_final).await; // the sender is here
        match self.shared.with(|state| state.abandoned) {
            0 => Ok(()),
            publishes => Err(Unfinished { publishes }),
        }
    }
}

impl Clone for Client {
    fn clone(&self) -> Self {
        Self::handle(&self.shared)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let now = self.shared.now();
        self.shared.act(|state| state.release(now));
    }
}

/// How to part from the server.
///
/// ```
/// use transport_tokio::{Farewell, ReasonCode};
///
/// let farewell = Farewell {
///     reason: ReasonCode::DisconnectWithWillMessage, // lets the server publish the will
///     ..Farewell::default()
/// };
/// assert_eq!(farewell.patience.as_secs(), 10);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// What the server is told; before 5.0, and instead of a reason that only servers give, success.
    pub reason: ReasonCode,
    /// Seconds that the server shall keep the session; 5.0 only, and only if
    /// [`Options::session_expiry_interval`] was not 0. Unless given, a session that this client
    /// [began](Options::clean_start) ends with it, and another is kept as agreed.
    pub session_expiry_interval: Option<u32>,
    /// How long to wait for the outcomes of publishes that have been accepted.
    pub patience: Duration,
}

impl Default for Farewell {
    fn default() -> Self {
        Self {
            reason: ReasonCode::Success,
            session_expiry_interval: None,
            patience: Duration::from_millis(CLOSING),
        }
    }
}

/// Some publishes had no outcome when the client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unfinished {
    /// How many. Each was told [`PublishError::Closed`](crate::PublishError::Closed).
    pub publishes: usize,
}

impl std::fmt::Display for Unfinished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} publishes had no outcome when the client ended", self.publishes)
    }
}

impl std::error::Error for Unfinished {}

/// How to reach the server of this URL, whose user and password come first.
fn dial(url: &str, mut options: Options) -> Result<(Dialer, Options), ConnectError> {
    let endpoint: Endpoint = url.parse()?;
    if let Some(user) = endpoint.user_name() {
        options.user_name = Some(user.into());
    }
    if let Some(password) = endpoint.password() {
        options.password = Some(Bytes::copy_from_slice(password));
    }
    let dialer = Dialer::new(endpoint);
    #[cfg(feature = "tls")]
    let dialer = dialer.tls(std::mem::take(&mut options.tls));
    #[cfg(feature = "websocket")]
    let dialer = dialer.websocket(std::mem::take(&mut options.websocket));
    Ok((dialer, options))
}
