//! The broker's numbers over HTTP, for Prometheus.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc::WeakSender},
    task::JoinSet,
    time,
};

use super::{ServeError, ask, shard::Command};

/// How many ask at once.
const CONNECTIONS: usize = 16;

/// How long each may take, for all that it asks.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest request, in bytes.
const MAX_REQUEST: usize = 8 * 1024;

/// What Prometheus' text format is called.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Listens there. And the URL that it has become.
pub(super) async fn bind(address: SocketAddr) -> Result<(TcpListener, String), ServeError> {
    let failed = |error| ServeError::Bind { url: format!("http://{address}/metrics"), error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, format!("http://{address}/metrics")))
}

/// Answers until it is aborted.
pub(super) async fn serve(listener: TcpListener, commands: WeakSender<Command>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let commands = commands.clone();
                connections.spawn(async move {
                    let _place = place;
                    let _ = time::timeout(PATIENCE, converse(stream, commands)).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection for metrics can be accepted");
                time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, commands: WeakSender<Command>) {
    let service = service_fn(|request| answer(request, &commands));
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(MAX_REQUEST)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = conversation.await {
        tracing::debug!(%error, "a connection for metrics failed");
    }
}

async fn answer(
    request: Request<Incoming>,
    commands: &WeakSender<Command>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
    if request.uri().path() != "/metrics" {
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    let statistics = match commands.upgrade() {
        Some(commands) => ask(&commands, |shard| shard.statistics()).await,
        None => None,
    };
    match statistics {
        Some(statistics) => {
            *response.body_mut() = Full::from(statistics.to_prometheus());
            response.headers_mut().insert(CONTENT_TYPE, TEXT);
        }
        None => *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE,
    }
    Ok(response)
}
