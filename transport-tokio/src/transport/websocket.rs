//! MQTT in WebSocket messages, as a stream of bytes.
//!
//! Where frames begin and end means nothing: one may carry several packets or a part of one
//! [MQTT-6.0.0-2].

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::http::header::{
    HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL,
};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Endpoint, Transport};

#[cfg(test)]
mod tests;

/// The most that goes into one frame. It bounds what is buffered for writing.
const FRAME: usize = 64 * 1024;

/// What is read at once. The library clears as much before each read.
const READ: usize = 16 * 1024;

/// How a WebSocket is opened. The sub-protocol is always `mqtt`.
#[derive(Clone)]
pub struct WebSocketOptions {
    /// Headers to send with the request: cookies, `Authorization`, ... Of those that make a WebSocket
    /// (`Host`, `Connection`, `Upgrade`, `Sec-WebSocket-*`), only `Host` can be replaced.
    pub headers: Vec<(String, String)>,
    /// The longest message accepted from the server, in bytes; a longer one ends the connection. A server
    /// may put several packets into a message: let this be no less than the longest packet that the
    /// client accepts. 64 MiB unless changed.
    pub max_message_size: usize,
}

impl fmt::Debug for WebSocketOptions {
    /// Without the headers' values, some of which are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("WebSocketOptions")
            .field("headers", &names)
            .field("max_message_size", &self.max_message_size)
            .finish()
    }
}

impl Default for WebSocketOptions {
    fn default() -> Self {
        Self { headers: Vec::new(), max_message_size: 64 << 20 }
    }
}

impl WebSocketOptions {
    fn request(&self, endpoint: &Endpoint) -> io::Result<Request> {
        let wrong = |message: String| io::Error::new(io::ErrorKind::InvalidInput, message);
        let mut request =
            endpoint.url().into_client_request().map_err(|error| wrong(error.to_string()))?;
        let headers = request.headers_mut();
        for (name, value) in &self.headers {
            let refused = |what| wrong(format!("header {name:?}: {what}"));
            let name =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused("not a name"))?;
            let value = HeaderValue::from_str(value).map_err(|_| refused("not a value"))?;
            match name.as_str() {
                "host" => drop(headers.insert(name, value)),
                "connection" | "upgrade" => return Err(refused("not for the caller to set")),
                text if text.starts_with("sec-websocket-") => {
                    return Err(refused("not for the caller to set"));
                }
                _ => drop(headers.append(name, value)),
            }
        }
        // [MQTT-6.0.0-3]. That the server answers with it [MQTT-6.0.0-4] is checked by the library.
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("mqtt"));
        Ok(request)
    }

    fn config(&self) -> WebSocketConfig {
        WebSocketConfig::default()
            .read_buffer_size(READ)
            // Each frame is written at once. What the socket does not take is all that is buffered: a
            // frame and answers to pings.
            .write_buffer_size(0)
            .max_write_buffer_size(2 * FRAME)
            .max_message_size(Some(self.max_message_size))
            .max_frame_size(Some(self.max_message_size))
    }
}

/// Asks the server at the other end of `transport` for a WebSocket.
pub(super) async fn connect<T: Transport>(
    transport: T,
    endpoint: &Endpoint,
    options: &WebSocketOptions,
) -> io::Result<WebSocket<T>> {
    let request = options.request(endpoint)?;
    let config = Some(options.config());
    let (frames, _) = tokio_tungstenite::client_async_with_config(request, transport, config)
        .await
        .map_err(io_error)?;
    Ok(WebSocket { frames, unread: Bytes::new(), state: State::Open })
}

/// Lets a client open a WebSocket over `transport`, at this path, for MQTT and nothing else
/// [MQTT-6.0.0-3] [MQTT-6.0.0-4]. Its messages may have so many bytes.
pub(super) async fn accept<T: Transport>(
    transport: T,
    path: &str,
    max_message_size: usize,
) -> io::Result<WebSocket<T>> {
    let config = WebSocketOptions { max_message_size, ..WebSocketOptions::default() }.config();
    // The library's own type for it.
    #[expect(clippy::result_large_err)]
    let answer = |request: &Request, mut response: Response| {
        let offers = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL);
        let mut offers = offers.iter().filter_map(|list| list.to_str().ok());
        let is_mqtt = |offer: &str| offer.trim() == "mqtt";
        let refusal = if request.uri().path() != path {
            StatusCode::NOT_FOUND
        } else if !offers.any(|list| list.split(',').any(is_mqtt)) {
            StatusCode::BAD_REQUEST
        } else {
            let mqtt = HeaderValue::from_static("mqtt");
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, mqtt);
            return Ok(response);
        };
        let mut response = ErrorResponse::new(None);
        *response.status_mut() = refusal;
        Err(response)
    };
    let frames = tokio_tungstenite::accept_hdr_async_with_config(transport, answer, Some(config))
        .await
        .map_err(io_error)?;
    Ok(WebSocket { frames, unread: Bytes::new(), state: State::Open })
}

/// A WebSocket as a stream of bytes.
pub(super) struct WebSocket<T> {
    frames: WebSocketStream<T>,
    /// What is left of the last message.
    unread: Bytes,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing more can be read: the server has closed the WebSocket, or broken its rules.
    Ended,
    /// As before, and the transport below is to be shut down.
    Closing,
}

impl<T: Transport> WebSocket<T> {
    /// The bytes of the next message. `None` at the end.
    fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        while self.state == State::Open {
            let message = ready!(Pin::new(&mut self.frames).poll_next(context));
            let error = match message {
                Some(Ok(Message::Binary(bytes))) => return Poll::Ready(Some(Ok(bytes))),
                // The library answers pings when it is asked for the next message.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                // [MQTT-6.0.0-1]
                Some(Ok(Message::Text(_))) => {
                    self.refuse(context);
                    Some(io::Error::new(io::ErrorKind::InvalidData, "a text frame in MQTT"))
                }
                Some(Ok(Message::Close(frame))) => {
                    // The answer. If it cannot be written now, shutting down does it.
                    let _ = Pin::new(&mut self.frames).poll_flush(context);
                    frame.and_then(closed)
                }
                // The end as TCP has it. Whether it is the end of a packet, MQTT knows.
                None | Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => {
                    None
                }
                Some(Err(error)) => Some(io_error(error)),
            };
            self.state = State::Ended;
            return Poll::Ready(error.map(Err));
        }
        Poll::Ready(None)
    }

    /// Tells the server, if it can be told at once, that its message is of the wrong kind.
    fn refuse(&mut self, context: &mut Context<'_>) {
        let frame = CloseFrame { code: CloseCode::Unsupported, reason: "MQTT is binary".into() };
        let mut frames = Pin::new(&mut self.frames);
        if frames.as_mut().start_send(Message::Close(Some(frame))).is_ok() {
            let _ = frames.poll_flush(context);
        }
    }

    /// Sends one frame. Not to be called with more than [`FRAME`] bytes.
    fn poll_send(&mut self, context: &mut Context<'_>, bytes: Bytes) -> Poll<io::Result<usize>> {
        let len = bytes.len();
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        let mut message = Message::Binary(bytes);
        let mut frames = Pin::new(&mut self.frames);
        loop {
            ready!(frames.as_mut().poll_ready(context)).map_err(io_error)?;
            message = match frames.as_mut().start_send(message) {
                Ok(()) => return Poll::Ready(Ok(len)),
                // Answers to pings are waiting for the socket, too.
                Err(Error::WriteBufferFull(message)) => *message,
                Err(error) => return Poll::Ready(Err(io_error(error))),
            };
            ready!(frames.as_mut().poll_flush(context)).map_err(io_error)?;
        }
    }
}

impl<T: Transport> AsyncRead for WebSocket<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A message may be empty; no bytes would mean the end.
        while self.unread.is_empty() {
            match ready!(self.poll_bytes(context)) {
                Some(bytes) => self.unread = bytes?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let len = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread.split_to(len));
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> AsyncWrite for WebSocket<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (now, _) = bytes.split_at(bytes.len().min(FRAME));
        self.poll_send(context, Bytes::copy_from_slice(now))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut joined = BytesMut::with_capacity(len.min(FRAME));
        for slice in slices {
            let (now, _) = slice.split_at(slice.len().min(FRAME - joined.len()));
            joined.extend_from_slice(now);
        }
        self.poll_send(context, joined.freeze())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.frames).poll_flush(context).map_err(io_error)
    }

    /// Closes the WebSocket, waits until the server has closed it too, and shuts down what is below. What
    /// arrives meanwhile is dropped.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.state != State::Closing {
            ready!(Pin::new(&mut self.frames).poll_close(context)).map_err(io_error)?;
            // However it ends: it was to end.
            while let Some(Ok(_)) = ready!(self.poll_bytes(context)) {}
            self.state = State::Closing;
        }
        Pin::new(self.frames.get_mut()).poll_shutdown(context)
    }
}

/// What the server says when it closes, unless it is just done.
fn closed(frame: CloseFrame) -> Option<io::Error> {
    match frame.code {
        CloseCode::Normal | CloseCode::Away => None,
        code => Some(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            format!("the server closed the WebSocket: {} {}", u16::from(code), frame.reason),
        )),
    }
}

/// The error with what the library met inside, or the transport's own.
fn io_error(error: Error) -> io::Error {
    let kind = match &error {
        Error::Io(_) => io::ErrorKind::Other,
        Error::Http(response)
            if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&response.status()) =>
        {
            io::ErrorKind::PermissionDenied
        }
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::NotConnected,
        Error::Protocol(ProtocolError::SendAfterClosing) => io::ErrorKind::BrokenPipe,
        _ => io::ErrorKind::InvalidData,
    };
    match error {
        Error::Io(error) => error,
        error => io::Error::new(kind, error),
    }
}
