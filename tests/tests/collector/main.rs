//! homeostat in the Collector's world: a real Collector before it and behind it, telemetrygen, the Collector's own example
//! configurations, and what happens to all of them under ten times too much.

mod chain;
mod examples;
mod generated;
mod overload;
mod sides;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

/// The ids of the spans in an encoded request.
fn ids(request: &[u8]) -> Vec<Vec<u8>> {
    let request = ExportTraceServiceRequest::decode(request).expect("it is a traces request");
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).map(|span| span.span_id).collect()
}

/// The page for users; what it shows is what these tests try.
const PAGE: &str = include_str!("../../../docs/collector.md");

/// The configuration of the page that begins with the comment `title`.
fn fence(title: &str) -> &'static str {
    let start = format!("```yaml\n# {title}\n");
    let (_, rest) = PAGE.split_once(&start).unwrap_or_else(|| panic!("docs/collector.md has no `# {title}`"));
    rest.split_once("```").expect("the fence ends").0
}
