//! Fuzzes `headers` of homeostat-parsers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| homeostat_parsers::run("headers", data));
