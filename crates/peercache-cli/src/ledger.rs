//! The ledger of a server as tables: who asked, what was sent and charged, what was saved.

use clap::ValueEnum;
use serde_json::Value;

use crate::output;
use crate::plain::on_one_line;

/// By what the ledger is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// The label of the client
    Client,
    /// The route, as the route table has it
    Route,
    /// The short id of the token
    Token,
}

impl By {
    const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Route => "route",
            Self::Token => "token",
        }
    }

    /// Where a report has the rows.
    pub(crate) const fn pointer(self) -> &'static str {
        match self {
            Self::Client => "/ledger/clients",
            Self::Route => "/ledger/routes",
            Self::Token => "/ledger/tokens",
        }
    }
}

/// One row: the name, and asked, sent, charged and saved.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) counts: [i64; 4],
}

/// The rows of a report, the dearest first. The texts are a server's: each is on one line.
pub(crate) fn rows(stats: &Value, by: By) -> Vec<Row> {
    let rows = stats.pointer(by.pointer()).and_then(Value::as_array).into_iter().flatten();
    rows.map(|row| Row {
        name: on_one_line(row[by.name()].as_str().unwrap_or("?")),
        counts: ["asked", "sent", "charged", "saved"].map(|name| row[name].as_i64().unwrap_or_default()),
    })
    .collect()
}

/// The rows as columns.
pub(crate) fn table(stats: &Value, by: By) -> String {
    let cells = |row: Row| {
        let counts = row.counts.map(|count| count.to_string());
        counts.into_iter().chain([row.name]).collect()
    };
    let rows: Vec<Vec<String>> = rows(stats, by).into_iter().map(cells).collect();
    let head = by.name().to_uppercase();
    output::table(&["ASKED", "SENT", "CHARGED", "SAVED", &head], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_are_listed_as_the_server_gives_them() {
        let stats = json!({ "ledger": { "clients": [
            { "client": "CI / build", "asked": 10, "sent": 4, "charged": 3, "saved": 7 },
            { "client": "lint\u{1b}[0m\n", "asked": 1, "sent": 2, "charged": 2, "saved": -1 },
        ] } });
        let lines = [
            "ASKED  SENT  CHARGED  SAVED  CLIENT",
            "10     4     3        7      CI / build",
            "1      2     2        -1     lint\u{fffd}[0m\u{fffd}",
        ];
        assert_eq!(table(&stats, By::Client).lines().collect::<Vec<_>>(), lines);
        assert_eq!(table(&json!({}), By::Token).lines().count(), 1);
    }
}
