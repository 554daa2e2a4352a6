//! What the log has been told of already.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// More rows than anybody mends by hand. Beyond them, the log is told again.
const MOST: usize = 10_000;

/// The ids of the rows of which the log has been told that something is wrong with them: once for each row and process,
/// however often the row is read.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<HashSet<String>>);

impl Told {
    /// Whether the log was not told of the row `id` yet. From now on it was.
    pub(crate) fn is_news(&self, id: &str) -> bool {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.contains(id) {
            return false;
        }
        if ids.len() >= MOST {
            ids.clear();
        }
        ids.insert(id.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_news_once_and_the_list_of_rows_is_bounded() {
        let told = Told::default();
        assert!(told.is_news("a") && told.is_news("b") && !told.is_news("a"));
        for number in 0..2 * MOST {
            assert!(told.is_news(&number.to_string()));
        }
        assert!(told.0.lock().unwrap().len() <= MOST);
    }
}
