//! Taking rows that are due: each by one process at a time, without waiting for any other.

use diesel::QueryResult;
use diesel::backend::Backend;
use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{BigInt, Bool, HasSqlType};
use diesel::sqlite::Sqlite;

use crate::time::Timekeeper;

/// A condition for an update: that the row is among the `limit` rows of `table` that have been due the longest, and that
/// nobody else is taking. The table has a column `due_at` with an index, and the update moves it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AmongDue {
    pub(crate) table: &'static str,
    pub(crate) limit: i64,
}

/// How a database names a row within one statement, and how it takes rows.
pub(crate) trait Taker: Backend {
    /// What stands before the rows that are looked for, between the table's name and them.
    const BEFORE: &'static str;
    /// What stands after them.
    const AFTER: &'static str;
}

impl Taker for Sqlite {
    const BEFORE: &'static str = "rowid IN (SELECT rowid";
    // There is one writer.
    const AFTER: &'static str = ")";
}

impl Taker for Pg {
    // An array is made once. A subquery behind IN may be run anew for every row, and then takes more than the limit.
    const BEFORE: &'static str = "ctid = ANY (ARRAY (SELECT ctid";
    const AFTER: &'static str = " FOR UPDATE SKIP LOCKED))";
}

impl Expression for AmongDue {
    type SqlType = Bool;
}

impl<Source> AppearsOnTable<Source> for AmongDue {}

impl<Source> SelectableExpression<Source> for AmongDue {}

impl ValidGrouping<()> for AmongDue {
    type IsAggregate = is_aggregate::Never;
}

/// Its text depends on its value.
impl QueryId for AmongDue {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<DB> QueryFragment<DB> for AmongDue
where
    DB: Taker + Timekeeper + HasSqlType<BigInt>,
    i64: ToSql<BigInt, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_identifier(self.table)?;
        out.push_sql(".");
        out.push_sql(DB::BEFORE);
        out.push_sql(" FROM ");
        out.push_identifier(self.table)?;
        // The time is asked for once: else PostgreSQL cannot look for it in the index.
        out.push_sql(" WHERE due_at <= (SELECT ");
        out.push_sql(DB::NOW);
        out.push_sql(") ORDER BY due_at LIMIT ");
        out.push_bind_param::<BigInt, _>(&self.limit)?;
        out.push_sql(DB::AFTER);
        Ok(())
    }
}
