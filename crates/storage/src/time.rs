//! The time that all processes agree on: the database's own. Clocks of replicas may differ, so no lease and no due time
//! is ever held against one of them.

use std::time::Duration;

use diesel::backend::Backend;
use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{BigInt, HasSqlType};
use diesel::sqlite::Sqlite;
use diesel::{QueryResult, expression_methods::NullableExpressionMethods};

/// A thousand years: whatever is added to now is still a date.
const LONGEST: i64 = 31_556_952_000_000_000;

/// A database that can be asked for the time.
pub(crate) trait Timekeeper: Backend {
    /// Microseconds since 1970, anew wherever it stands: also within a transaction, and after a wait for a lock.
    const NOW: &'static str;
}

impl Timekeeper for Sqlite {
    const NOW: &'static str = "CAST(unixepoch('subsec') * 1000000 AS INTEGER)";
}

impl Timekeeper for Pg {
    const NOW: &'static str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
}

/// The database's time, and so many microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreTime {
    plus: i64,
    /// Asked once for the whole statement: else PostgreSQL cannot look for it in an index.
    once: bool,
}

/// Now, by the database's clock.
pub(crate) const fn now() -> StoreTime {
    StoreTime { plus: 0, once: false }
}

/// As [`now`], to be looked for in an index.
pub(crate) const fn now_once() -> StoreTime {
    StoreTime { plus: 0, once: true }
}

/// So long from now, by the database's clock.
pub(crate) fn after(time: Duration) -> diesel::dsl::Nullable<StoreTime> {
    from_now(time).nullable()
}

/// As [`after`], for a column that is never empty.
pub(crate) fn from_now(time: Duration) -> StoreTime {
    StoreTime { plus: i64::try_from(time.as_micros()).unwrap_or(LONGEST).min(LONGEST), once: false }
}

impl Expression for StoreTime {
    type SqlType = BigInt;
}

impl<Source> AppearsOnTable<Source> for StoreTime {}

impl<Source> SelectableExpression<Source> for StoreTime {}

impl ValidGrouping<()> for StoreTime {
    type IsAggregate = is_aggregate::Never;
}

/// Its text depends on its value.
impl QueryId for StoreTime {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<DB> QueryFragment<DB> for StoreTime
where
    DB: Timekeeper + HasSqlType<BigInt>,
    i64: ToSql<BigInt, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql(if self.once { "(SELECT " } else { "(" });
        out.push_sql(DB::NOW);
        if self.plus != 0 {
            out.push_sql(" + ");
            out.push_bind_param::<BigInt, _>(&self.plus)?;
        }
        out.push_sql(")");
        Ok(())
    }
}
