//! Who is let in, and what is allowed: what the guards say, asked when the core asks.

use std::sync::Arc;

use mqtt_core::{
    Properties, ReasonCode, Version,
    broker::{Action, End, Notice, Verdict},
    wire::{Auth, Connect},
};

use super::{
    access::{Access, Login, Pass, Passing, Wish, decide},
    connection::{Admitted, Inquiry},
    events::Event,
    exchange::{Decision, Talk},
    host::Connections,
};

impl Connections {
    /// Whether a client may do something.
    pub(super) fn judge(&mut self, place: usize, action: &Action<'_>) -> Verdict {
        match *action {
            Action::Connect(version, connect) => self.may_connect(place, version, connect),
            Action::Authenticate(auth) => self.may_go_on(place, &auth),
            Action::Publish { client_id, topic, qos, retain, payload, properties, .. } => {
                let wish = Wish::Publish { topic, qos, retain, payload };
                self.may(place, client_id, wish, properties)
            }
            Action::Subscribe { client_id, subscription, .. } => {
                let wish = Wish::Subscribe { filter: subscription.filter, qos: subscription.qos };
                self.may(place, client_id, wish, Properties::EMPTY)
            }
            _ => Verdict::Deny(ReasonCode::NotAuthorized),
        }
    }

    fn may(
        &self,
        place: usize,
        client_id: &[u8],
        wish: Wish<'_>,
        properties: Properties<'_>,
    ) -> Verdict {
        let Some(connection) = self.at(place) else {
            return Verdict::Deny(ReasonCode::NotAuthorized);
        };
        if connection.is_stopped && matches!(wish, Wish::Publish { .. }) {
            return Verdict::Later;
        }
        if self.guards.authorize.is_none() && self.guards.inspect.is_none() {
            return Verdict::Allow;
        }
        let client_id = std::str::from_utf8(client_id).unwrap_or_default();
        let user_name = connection.user_name.as_deref();
        if !self.guards.allows(&Access::new(client_id, user_name, wish)) {
            return Verdict::Deny(ReasonCode::NotAuthorized);
        }
        let Wish::Publish { topic, qos, retain, payload } = wish else { return Verdict::Allow };
        let is_will = connection.admitted.is_none();
        let passing =
            Passing { client_id, user_name, is_will, topic, qos, retain, payload, properties };
        match self.guards.inspect(&passing) {
            Pass::On => Verdict::Allow,
            Pass::Dropped => Verdict::Deny(ReasonCode::Success),
            Pass::Denied(reason) if reason.is_error() => Verdict::Deny(reason),
            Pass::Denied(_) => Verdict::Deny(ReasonCode::NotAuthorized),
        }
    }

    fn may_connect(&mut self, place: usize, version: Version, connect: &Connect<'_>) -> Verdict {
        let Self { guards, patience, queue, .. } = self;
        let Some(connection) = self.places.get_mut(place).and_then(Option::as_deref_mut) else {
            return Verdict::Deny(ReasonCode::UnspecifiedError);
        };
        if let Some(inquiry) = &mut connection.inquiry
            && let Some(decision) = inquiry.decision.take()
        {
            return follow(decision, inquiry, &mut connection.user_name);
        }
        if let Some(span) = &connection.span {
            span.record("client_id", connect.client_id.as_str());
        }
        connection.user_name = connect.user_name.map(|name| Arc::from(name.as_str()));
        match (&connect.authentication, &guards.authenticate) {
            (Some(authentication), _) => {
                let Some(conduct) = guards.method(authentication.method.as_str()) else {
                    return Verdict::Deny(ReasonCode::BadAuthenticationMethod);
                };
                let login = Login::new(version, connect, connection.origin());
                let inquiry = connection.inquiry.get_or_insert_default();
                let again = Login { password: None, ..login.clone() };
                inquiry.login = Some(again);
                let talk = Talk::begin(conduct, login, false, authentication.data);
                inquiry.deciding = Some((talk.next(*patience), queue.waker(place)));
                Verdict::Later
            }
            (None, Some(authenticate)) => {
                let login = Login::new(version, connect, connection.origin());
                let deciding = decide(authenticate, login, *patience);
                let inquiry = connection.inquiry.get_or_insert_default();
                inquiry.deciding = Some((deciding, queue.waker(place)));
                Verdict::Later
            }
            (None, None) => Verdict::Allow,
        }
    }

    /// AUTH: the client's answer, or another beginning.
    fn may_go_on(&mut self, place: usize, auth: &Auth<'_>) -> Verdict {
        let Self { guards, patience, queue, .. } = self;
        let Some(connection) = self.places.get_mut(place).and_then(Option::as_deref_mut) else {
            return Verdict::Deny(ReasonCode::UnspecifiedError);
        };
        let inquiry = connection.inquiry.get_or_insert_default();
        if let Some(decision) = inquiry.decision.take() {
            return follow(decision, inquiry, &mut connection.user_name);
        }
        let data = auth.properties.authentication_data();
        let talk = if auth.reason == ReasonCode::ReAuthenticate {
            let method = auth.properties.authentication_method();
            let conduct = method.and_then(|method| guards.method(method.as_str()));
            conduct
                .zip(inquiry.login.as_ref())
                .map(|(conduct, login)| Talk::begin(conduct, login.clone(), true, data))
        } else {
            inquiry.talk.take().inspect(|talk| talk.answer(data))
        };
        let Some(talk) = talk else { return Verdict::Deny(ReasonCode::NotAuthorized) };
        inquiry.deciding = Some((talk.next(*patience), queue.waker(place)));
        Verdict::Later
    }

    /// Tells those who want to know.
    pub(super) fn note(&mut self, notice: &Notice<'_>) {
        if let Notice::Behind { connection, messages, bytes } = *notice {
            return self.hold_back(connection.index(), messages, bytes);
        }
        match *notice {
            Notice::Connected { connection, version, keep_alive, clean_start, .. } => {
                self.clients += 1;
                self.most_clients = self.most_clients.max(self.clients);
                let since = self.now;
                if let Some(connection) = self.get(connection.index()) {
                    // What another inquiry begins with is kept.
                    let again = |inquiry: &mut Box<Inquiry>| inquiry.login.is_some();
                    connection.inquiry = connection.inquiry.take_if(again);
                    let admitted = Admitted { version, keep_alive, clean_start, since };
                    connection.admitted = Some(admitted);
                }
            }
            Notice::Disconnected { .. } => self.clients -= 1,
            _ => {}
        }
        self.trace(notice);
        if self.observers.are_there()
            && let Some(event) = self.event(notice)
        {
            self.observers.tell(&event);
        }
    }

    fn trace(&self, notice: &Notice<'_>) {
        let (connection, what, why) = match *notice {
            Notice::Connected { connection, client_id, .. } => {
                let connection = self.at(connection.index());
                if let Some(span) = connection.and_then(|connection| connection.span.as_deref()) {
                    // It may have been given its name.
                    span.record("client_id", text(client_id));
                }
                (connection, "connected", None)
            }
            Notice::Refused { connection, reason, .. } => {
                (self.at(connection.index()), "refused", Some(End::Left(reason)))
            }
            Notice::Disconnected { connection, end, .. } => {
                (self.at(connection.index()), "disconnected", Some(end))
            }
            _ => return,
        };
        let span = connection.and_then(|connection| connection.span.as_deref());
        let Some(span) = span else { return };
        match why {
            None => tracing::debug!(parent: span, "{what}"),
            Some(End::Left(reason) | End::SentAway(reason)) => {
                tracing::debug!(parent: span, ?reason, "{what}");
            }
            Some(end) => tracing::debug!(parent: span, ?end, "{what}"),
        }
    }

    fn event(&self, notice: &Notice<'_>) -> Option<Event> {
        let shared = |name: &[u8]| Arc::from(text(name));
        Some(match *notice {
            Notice::Connected {
                connection,
                client_id,
                version,
                keep_alive,
                clean_start,
                session_present,
            } => {
                let connection = self.at(connection.index())?;
                Event::Connected {
                    client_id: shared(client_id),
                    user_name: connection.user_name.clone(),
                    version,
                    address: connection.address(),
                    listener: connection.listener(),
                    keep_alive,
                    clean_start,
                    session_present,
                }
            }
            Notice::Refused { connection, client_id, reason } => Event::Refused {
                client_id: shared(client_id),
                address: self.at(connection.index())?.address(),
                reason,
            },
            Notice::Disconnected { client_id, end, .. } => {
                Event::Disconnected { client_id: shared(client_id), end }
            }
            Notice::Subscribed { client_id, filter, qos } => Event::Subscribed {
                client_id: shared(client_id),
                filter: Arc::from(filter.as_str()),
                qos,
            },
            Notice::Unsubscribed { client_id, filter } => Event::Unsubscribed {
                client_id: shared(client_id),
                filter: Arc::from(filter.as_str()),
            },
            Notice::SessionEnded { client_id } => {
                Event::SessionEnded { client_id: shared(client_id) }
            }
            _ => return None,
        })
    }
}

/// What follows from what has been found out.
fn follow(decision: Decision, inquiry: &mut Inquiry, user_name: &mut Option<Arc<str>>) -> Verdict {
    match decision {
        Decision::Known(Ok(known)) => {
            if let Some(name) = known.user_name {
                *user_name = Some(Arc::from(name));
            }
            inquiry.answer = known.data;
            Verdict::Allow
        }
        Decision::Known(Err(reason)) => Verdict::Deny(reason),
        Decision::Challenge(data, talk) => {
            (inquiry.answer, inquiry.talk) = (Some(data), Some(talk));
            Verdict::Continue
        }
    }
}

/// Names are text that was checked.
fn text(name: &[u8]) -> &str {
    std::str::from_utf8(name).unwrap_or_default()
}
