//! What a Storacha service sends, and the token that a user gives: the assertions are in the crate.

/// Any bytes as a CAR: every block is what its identifier says.
pub fn storacha_car(data: &[u8]) {
    peercache_storacha::fuzzing::car(data);
}

/// Any bytes as DAG-CBOR: as a value, a delegation, a receipt.
pub fn storacha_cbor(data: &[u8]) {
    peercache_storacha::fuzzing::dag_cbor(data);
}

/// Any bytes as a token: a changed one grants no more, and an error shows no key.
pub fn storacha_token(data: &[u8]) {
    peercache_storacha::fuzzing::token(data);
}

/// Any bytes as receipts: a changed one does not verify.
pub fn storacha_receipt(data: &[u8]) {
    peercache_storacha::fuzzing::receipt(data);
}
