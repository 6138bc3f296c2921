#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| peercache_fuzz::storacha_car(data));
