//! An HTTP client for tests: the side of a client of the service, which the guarded client is not.

/// A client that follows no redirect and asks no proxy.
///
/// # Panics
///
/// If the client cannot be built.
#[expect(clippy::disallowed_methods, reason = "a test is a client of the service; the service itself never uses this")]
#[expect(clippy::expect_used, reason = "a test stops where its own premises fail")]
pub fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tls_certs_only([])
        .build()
        .expect("the test client")
}
