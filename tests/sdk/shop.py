"""A service instrumented with the OpenTelemetry SDK, as the end-to-end test drives it.

It reports spans and log records over gRPC and HTTP, plain and gzip, each time round all four, until the state file says `stop`;
while the file says `bad`, logins are slow and payments fail. At the end it prints what was taken, as JSON.
"""

import json
import logging
import sys
import time

from grpc import Compression as GrpcCompression
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http import Compression as HttpCompression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode

TIMEOUT_SECONDS = 60


class Counting:
    """Passes on to an exporter and counts what it says was taken."""

    def __init__(self, exporter, counts, key):
        self.exporter, self.counts, self.key = exporter, counts, key

    def export(self, batch):
        result = self.exporter.export(batch)
        outcome = "taken" if result.name == "SUCCESS" else "failed"
        self.counts[f"{self.key}_{outcome}"] = self.counts.get(f"{self.key}_{outcome}", 0) + len(batch)
        return result

    def shutdown(self):
        self.exporter.shutdown()

    def force_flush(self, timeout_millis=30000):
        return True


def exporters(grpc, http):
    base = f"http://{http}/v1"
    for compression in (GrpcCompression.NoCompression, GrpcCompression.Gzip):
        options = {"endpoint": f"http://{grpc}", "insecure": True, "compression": compression, "timeout": TIMEOUT_SECONDS}
        yield GrpcSpans(**options), GrpcLogs(**options)
    for compression in (HttpCompression.NoCompression, HttpCompression.Gzip):
        options = {"compression": compression, "timeout": TIMEOUT_SECONDS}
        yield HttpSpans(endpoint=f"{base}/traces", **options), HttpLogs(endpoint=f"{base}/logs", **options)


def main():
    grpc, http, state_file = sys.argv[1:]
    counts = {}
    resource = Resource.create({"service.name": "shop", "deployment.environment.name": "test"})
    shops = []
    for number, (spans, logs) in enumerate(exporters(grpc, http)):
        tracers = TracerProvider(resource=resource)
        tracers.add_span_processor(BatchSpanProcessor(Counting(spans, counts, "spans")))
        loggers = LoggerProvider(resource=resource)
        loggers.add_log_record_processor(SimpleLogRecordProcessor(Counting(logs, counts, "logs")))
        logger = logging.Logger(f"shop-{number}")
        logger.addHandler(LoggingHandler(logger_provider=loggers))
        shops.append((tracers, loggers, tracers.get_tracer("shop"), logger))
    while True:
        with open(state_file, encoding="utf-8") as file:
            state = file.read().strip()
        if state == "stop":
            break
        is_bad = state == "bad"
        for tracers, _, tracer, logger in shops:
            for _ in range(5):
                end = time.time_ns()
                start = end - (800_000_000 if is_bad else 100_000_000)
                attributes = {"req": "REQ-NFR-PERF-001", "sea.context": "auth", "sea.flow": "Login"}
                span = tracer.start_span("POST /login", kind=SpanKind.SERVER, attributes=attributes, start_time=start)
                span.set_status(Status(StatusCode.OK))
                span.end(end_time=end)
            level = logging.ERROR if is_bad else logging.INFO
            logger.log(level, "payment", extra={"requirement": "REQ-F-PAY-002", "sea.flow": "Pay"})
            tracers.force_flush()
        time.sleep(0.1)
    for tracers, loggers, _, _ in shops:
        tracers.shutdown()
        loggers.shutdown()
    assert SeverityNumber.ERROR.value == 17
    print(json.dumps(counts), flush=True)


main()
