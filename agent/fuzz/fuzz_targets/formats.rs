//! See [`fieldlog_fuzz`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fieldlog_fuzz::run(fieldlog_fuzz::formats::run, data));
