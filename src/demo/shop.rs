//! A small shop of services, as its SDKs would report it: logins, checkouts, and browsing that carries no requirement.

use std::time::Duration;

use homeostat_pipeline::clock::Timestamp;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::SpanKind};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

/// How the shop is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// As its requirements say.
    Healthy,
    /// Login is slow and checkouts fail.
    Broken,
    /// A fix is out.
    Fixed,
}

impl Phase {
    /// For the screen.
    pub const fn title(self) -> &'static str {
        match self {
            Phase::Healthy => "the shop is healthy",
            Phase::Broken => "a deployment makes login slow, and checkouts begin to fail",
            Phase::Fixed => "the fix is out",
        }
    }
}

/// Requests that a second brings.
const LOGINS_PER_SECOND: u32 = 60;
const CHECKOUTS_PER_SECOND: u32 = 40;
const PAGES_PER_SECOND: u32 = 50;

/// The shop; the same seed tells the same story.
pub struct Shop {
    random: StdRng,
}

struct Endpoint {
    service: &'static str,
    name: &'static str,
    attributes: &'static [(&'static str, &'static str)],
}

const LOGIN: Endpoint = Endpoint {
    service: "auth-service",
    name: "POST /login",
    attributes: &[
        ("req", "REQ-NFR-PERF-001"),
        ("sea.context", "auth"),
        ("sea.flow", "Login"),
        ("http.request.method", "POST"),
        ("url.path", "/login"),
    ],
};

const CHECKOUT: Endpoint = Endpoint {
    service: "order-service",
    name: "POST /checkout",
    attributes: &[
        ("requirement", "REQ-NFR-REL-002"),
        ("sea.context", "orders"),
        ("sea.flow", "Checkout"),
        ("http.request.method", "POST"),
        ("url.path", "/checkout"),
    ],
};

const BROWSE: Endpoint = Endpoint {
    service: "catalog-service",
    name: "GET /products",
    attributes: &[("http.request.method", "GET"), ("url.path", "/products")],
};

impl Shop {
    /// A shop whose randomness begins at `seed`.
    pub fn new(seed: u64) -> Shop {
        Shop { random: StdRng::seed_from_u64(seed) }
    }

    /// What the shop's services report for the `slice` of time that ends at `now`.
    pub fn report(&mut self, phase: Phase, now: Timestamp, slice: Duration) -> ExportTraceServiceRequest {
        let (login_ms, login_errors) = match phase {
            Phase::Healthy | Phase::Fixed => (120.0, 0.001),
            Phase::Broken => (520.0, 0.001),
        };
        let (checkout_ms, checkout_errors) = match phase {
            Phase::Healthy | Phase::Fixed => (90.0, 0.0),
            Phase::Broken => (140.0, 0.25),
        };
        let resource_spans = vec![
            self.service(&LOGIN, LOGINS_PER_SECOND, login_ms, login_errors, now, slice),
            self.service(&CHECKOUT, CHECKOUTS_PER_SECOND, checkout_ms, checkout_errors, now, slice),
            self.service(&BROWSE, PAGES_PER_SECOND, 40.0, 0.01, now, slice),
        ];
        ExportTraceServiceRequest { resource_spans }
    }

    fn service(
        &mut self,
        endpoint: &Endpoint,
        per_second: u32,
        median_ms: f64,
        error_rate: f64,
        now: Timestamp,
        slice: Duration,
    ) -> ResourceSpans {
        let count = (f64::from(per_second) * slice.as_secs_f64()).round().max(1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few dozen")]
        let spans =
            (0..count as u32).map(|_| self.span(endpoint, median_ms, error_rate, now, slice)).collect();
        let resource = Resource {
            attributes: vec![
                text("service.name", endpoint.service),
                text("deployment.environment.name", "demo"),
            ],
            ..Resource::default()
        };
        let scope = InstrumentationScope { name: "shop".to_owned(), ..InstrumentationScope::default() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
        ResourceSpans { resource: Some(resource), scope_spans, schema_url: String::new() }
    }

    fn span(
        &mut self,
        endpoint: &Endpoint,
        median_ms: f64,
        error_rate: f64,
        now: Timestamp,
        slice: Duration,
    ) -> Span {
        // Log-normal around the median, from two uniform numbers (Box and Muller, 1958); p95 is about 1.6 times the median.
        let (u, v): (f64, f64) = (self.random.random_range(1e-9..1.0), self.random.random());
        let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        let duration = Duration::from_secs_f64(median_ms * (0.3 * normal).exp() / 1e3);
        let end = now - slice.mul_f64(self.random.random());
        let is_error = self.random.random_bool(error_rate);
        let mut trace_id = vec![0; 16];
        let mut span_id = vec![0; 8];
        self.random.fill_bytes(&mut trace_id);
        self.random.fill_bytes(&mut span_id);
        Span {
            trace_id,
            span_id,
            name: endpoint.name.to_owned(),
            kind: SpanKind::Server.into(),
            start_time_unix_nano: nanos(end - duration),
            end_time_unix_nano: nanos(end),
            attributes: endpoint.attributes.iter().map(|(key, value)| text(key, value)).collect(),
            status: is_error
                .then(|| Status { code: 2, message: "the payment provider did not answer".to_owned() }),
            ..Span::default()
        }
    }
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(0)
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_tells_the_same_story() {
        let tell = |seed| {
            let now = Timestamp::from_millis(1_700_000_000_000);
            Shop::new(seed).report(Phase::Broken, now, Duration::from_millis(250))
        };
        assert_eq!(tell(7), tell(7));
        assert_ne!(tell(7), tell(8));
    }
}
