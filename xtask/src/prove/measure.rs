//! Figures out of single measurements.

use std::time::{Duration, Instant};

use connectors_testkit::authorization_server::{AuthorizationServer, Endpoint};

/// The value below which so many percent of `times` are.
pub(super) fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or_default()
}

/// Latencies on one line.
pub(super) fn latencies(times: &[Duration]) -> String {
    let at = |percent| format!("{:.0} ms", percentile(times, percent).as_secs_f64() * 1000.0);
    format!("p50 {}, p90 {}, p99 {}, most {}", at(50), at(90), at(99), at(100))
}

/// The most events within any one second.
pub(super) fn peak(instants: &[Instant]) -> usize {
    let mut sorted = instants.to_vec();
    sorted.sort_unstable();
    let mut first = 0;
    let mut most = 0;
    for (number, at) in sorted.iter().enumerate() {
        while at.duration_since(sorted[first]) >= Duration::from_secs(1) {
            first += 1;
        }
        most = most.max(number + 1 - first);
    }
    most
}

/// When refresh requests arrived at the server.
pub(super) fn refreshes(server: &AuthorizationServer) -> Vec<Instant> {
    server.requests_to(Endpoint::Refresh).iter().map(|request| request.arrived).collect()
}

pub(super) fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let times: Vec<_> = (1..=101).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), Duration::from_millis(51));
        assert_eq!(percentile(&times, 100), Duration::from_millis(101));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }

    #[test]
    fn the_peak_is_that_of_the_busiest_second() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        assert_eq!(peak(&[at(0), at(900), at(1000), at(1100), at(1950), at(5000)]), 3);
        assert_eq!(peak(&[]), 0);
    }
}
