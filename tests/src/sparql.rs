//! A SPARQL 1.1 endpoint in memory, as Oxigraph's server would be one: `/query` and `/update`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use oxigraph::sparql::results::{QueryResultsFormat, QueryResultsSerializer};
use oxigraph::sparql::{QueryResults, SparqlEvaluator};
use oxigraph::store::Store;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// The endpoint; it ends when dropped.
pub struct Sparql {
    /// Where it listens.
    pub address: SocketAddr,
    store: Store,
    task: AbortHandle,
}

impl Sparql {
    /// Listens on a free port.
    pub async fn start() -> Sparql {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("the listener is bound");
        let store = Store::new().expect("memory holds a store");
        let serving = store.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let store = serving.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| answer(store.clone(), request));
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Sparql { address, store, task: task.abort_handle() }
    }

    /// The solutions of a SELECT: variable → value, as text.
    pub fn select(&self, query: &str) -> Vec<BTreeMap<String, String>> {
        let results = SparqlEvaluator::new()
            .parse_query(query)
            .expect("the query is SPARQL")
            .on_store(&self.store)
            .execute();
        let Ok(QueryResults::Solutions(solutions)) = results else { panic!("`{query}` is no SELECT") };
        let text = |term: &oxigraph::model::Term| match term {
            oxigraph::model::Term::NamedNode(node) => node.as_str().to_owned(),
            oxigraph::model::Term::Literal(literal) => literal.value().to_owned(),
            other => other.to_string(),
        };
        solutions
            .map(|solution| {
                let solution = solution.expect("memory can be read");
                solution.iter().map(|(variable, term)| (variable.as_str().to_owned(), text(term))).collect()
            })
            .collect()
    }
}

impl Drop for Sparql {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(store: Store, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body =
        request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&body).into_owned();
    let said = |status: u16, kind: &str, body: Vec<u8>| {
        let builder = Response::builder().status(status).header("content-type", kind);
        Ok(builder.body(Full::new(Bytes::from(body))).expect("the response is plain"))
    };
    let done = match path.as_str() {
        "/update" => update(&store, &text).map(|()| Vec::new()),
        "/query" => query(&store, &text),
        _ => return said(404, "text/plain", Vec::new()),
    };
    match done {
        Ok(body) => said(200, "application/sparql-results+json", body),
        Err(why) => said(400, "text/plain", why.into_bytes()),
    }
}

fn update(store: &Store, text: &str) -> Result<(), String> {
    let update = SparqlEvaluator::new().parse_update(text).map_err(|error| error.to_string())?;
    update.on_store(store).execute().map_err(|error| error.to_string())
}

fn query(store: &Store, text: &str) -> Result<Vec<u8>, String> {
    let query = SparqlEvaluator::new().parse_query(text).map_err(|error| error.to_string())?;
    let results = query.on_store(store).execute().map_err(|error| error.to_string())?;
    let json = QueryResultsSerializer::from_format(QueryResultsFormat::Json);
    match results {
        QueryResults::Boolean(value) => {
            json.serialize_boolean_to_writer(Vec::new(), value).map_err(|error| error.to_string())
        }
        QueryResults::Solutions(solutions) => {
            let mut writer = json
                .serialize_solutions_to_writer(Vec::new(), solutions.variables().to_vec())
                .map_err(|error| error.to_string())?;
            for solution in solutions {
                let solution = solution.map_err(|error| error.to_string())?;
                writer.serialize(&solution).map_err(|error| error.to_string())?;
            }
            writer.finish().map_err(|error| error.to_string())
        }
        QueryResults::Graph(_) => Err("graphs are not answered here".to_owned()),
    }
}
