//! What commands print: a sheet is a table for people or JSON for programs, from the same cells.
//!
//! Tables have no lines, so that `awk` and eyes can read them; JSON has numbers as numbers, times in
//! milliseconds since 1970 and sizes in bytes. Nothing here fails but the pipe. Shell.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use client::RequestError;
use comfy_table::{CellAlignment, Table, presets};
use protocol::time::Timestamp;
use serde_json::{Value, json};

use super::advice::Problem;
use super::values;

/// How answers are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A table for people.
    #[default]
    Table,
    /// JSON for programs.
    Json,
}

/// One value of a sheet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    /// Nothing is known, or nothing is there.
    None,
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
    /// A number that need not be whole.
    Real(f64),
    /// A size.
    Bytes(u64),
    /// A moment.
    Time(Timestamp),
    /// A length of time.
    Span(Duration),
    /// Yes or no.
    Flag(bool),
    /// Several texts.
    List(Vec<String>),
    /// Several numbers.
    Numbers(Vec<i64>),
}

impl Cell {
    /// A text.
    pub(crate) fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    /// A text, or nothing.
    pub(crate) fn maybe(text: Option<impl ToString>) -> Self {
        text.map_or(Self::None, Self::text)
    }

    /// A number, or nothing.
    pub(crate) fn number(number: Option<i64>) -> Self {
        number.map_or(Self::None, Self::Number)
    }

    /// A moment, or nothing when it is before 1970.
    pub(crate) fn time(time: Timestamp) -> Self {
        if time.0 < 0 { Self::None } else { Self::Time(time) }
    }

    fn show(&self) -> String {
        match self {
            Self::None => "-".to_owned(),
            Self::Text(text) if text.is_empty() => "-".to_owned(),
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Real(number) => number.to_string(),
            Self::Bytes(bytes) => values::show_bytes(*bytes),
            Self::Time(time) => values::show_time(*time),
            Self::Span(span) => values::show_span(*span),
            Self::Flag(flag) => flag.to_string(),
            Self::List(texts) if texts.is_empty() => "-".to_owned(),
            Self::List(texts) => texts.join(","),
            Self::Numbers(numbers) if numbers.is_empty() => "-".to_owned(),
            Self::Numbers(numbers) => {
                numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
            }
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::None => Value::Null,
            Self::Text(text) => json!(text),
            Self::Number(number) => json!(number),
            Self::Real(number) => json!(number),
            Self::Bytes(bytes) => json!(bytes),
            Self::Time(time) => json!(time.0),
            Self::Span(span) => json!(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
            Self::Flag(flag) => json!(flag),
            Self::List(texts) => json!(texts),
            Self::Numbers(numbers) => json!(numbers),
        }
    }

    fn is_numeric(&self) -> bool {
        matches!(self, Self::Number(_) | Self::Real(_) | Self::Bytes(_))
    }
}

/// Rows of cells below named columns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sheet {
    /// The names, as JSON has them: `log_end_offset`; a table heads them `LOG-END-OFFSET`.
    columns: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Sheet {
    /// A sheet without rows.
    pub(crate) fn new(columns: &[&'static str]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, which has a cell for each column.
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    /// True without rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As a table; the header alone when there are no rows.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(self.columns.iter().map(|it| it.to_uppercase().replace('_', "-")));
        for row in &self.rows {
            table.add_row(row.iter().map(Cell::show));
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            let mut known = self.rows.iter().map(|row| &row[index]).filter(|it| **it != Cell::None);
            if known.next().is_some_and(Cell::is_numeric) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = String::new();
        for line in table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// As a list of objects.
    pub(crate) fn json(&self) -> Value {
        let object = |row: &Vec<Cell>| -> Value {
            let pairs =
                self.columns.iter().zip(row).map(|(name, it)| ((*name).to_owned(), it.json()));
            Value::Object(pairs.collect())
        };
        self.rows.iter().map(object).collect()
    }
}

/// Prints a sheet.
pub(crate) fn print(format: Format, sheet: &Sheet) -> io::Result<()> {
    match format {
        Format::Table => write(&sheet.table()),
        Format::Json => print_json(&sheet.json()),
    }
}

/// Prints JSON over several lines.
pub(crate) fn print_json(value: &Value) -> io::Result<()> {
    write(&format!("{value:#}\n"))
}

/// Prints as it is.
pub(crate) fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// What became of each thing that a command was to do something to.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    done: Vec<(String, Cell)>,
    failed: BTreeMap<String, RequestError>,
}

impl Outcomes {
    /// It was done; `what` says how, as in `created`.
    pub(crate) fn done(&mut self, subject: impl ToString, what: impl ToString) {
        self.done.push((subject.to_string(), Cell::text(what)));
    }

    /// It was refused, or nobody answered.
    pub(crate) fn failed(&mut self, subject: impl ToString, error: RequestError) {
        self.failed.insert(subject.to_string(), error);
    }

    /// Takes a result in.
    pub(crate) fn take(
        &mut self,
        subject: impl ToString,
        what: impl ToString,
        result: Result<(), RequestError>,
    ) {
        match result {
            Ok(()) => self.done(subject, what),
            Err(error) => self.failed(subject, error),
        }
    }

    fn json(&self) -> Value {
        let done = self.done.iter().map(
            |(subject, what)| json!({ "subject": subject, "result": what.json(), "error": null }),
        );
        let failed = self.failed.iter().map(|(subject, error)| {
            json!({
                "subject": subject,
                "result": null,
                "error": error.to_string(),
                "error_code": error.error_code().map(|it| it.to_wire()),
                "retriable": error.is_retriable(),
            })
        });
        done.chain(failed).collect()
    }

    /// Prints what was done.
    ///
    /// # Errors
    /// What was not done: the one failure itself, or how many there were, each told on stderr.
    pub(crate) fn finish(self, format: Format) -> anyhow::Result<()> {
        match format {
            Format::Json => print_json(&self.json())?,
            Format::Table => {
                let line =
                    |(subject, what): &(String, Cell)| format!("{subject}: {}\n", what.show());
                write(&self.done.iter().map(line).collect::<String>())?;
            }
        }
        let (failed, all) = (self.failed.len(), self.failed.len() + self.done.len());
        let mut failures = self.failed.into_iter();
        if all == 1
            && let Some((subject, error)) = failures.next()
        {
            let is_named = names(&error, &subject);
            let error = anyhow::Error::new(error);
            return Err(if is_named { error } else { error.context(subject) });
        }
        for (subject, error) in failures {
            if names(&error, &subject) {
                eprintln!("{error}");
            } else {
                eprintln!("{subject}: {error}");
            }
        }
        if failed > 0 { Err(Problem::Partly { failed, all }.into()) } else { Ok(()) }
    }
}

/// True when the error says itself what it is about.
fn names(error: &RequestError, subject: &str) -> bool {
    let name = subject.rsplit(' ').next().unwrap_or_default();
    error.to_string().contains(name)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn sheet() -> Sheet {
        let mut sheet = Sheet::new(&["topic", "log_end_offset", "size", "newest", "replicas"]);
        sheet.push(vec![
            Cell::text("orders"),
            Cell::Number(12_000),
            Cell::Bytes(1_536),
            Cell::Time(Timestamp(1_700_000_000_000)),
            Cell::Numbers(vec![1, 2]),
        ]);
        sheet.push(vec![
            Cell::text("a-longer-name"),
            Cell::Number(7),
            Cell::Bytes(3),
            Cell::None,
            Cell::Numbers(Vec::new()),
        ]);
        sheet
    }

    #[test]
    fn a_table_aligns_numbers_to_the_right_and_has_no_lines() {
        expect![[r#"
            TOPIC          LOG-END-OFFSET      SIZE  NEWEST                REPLICAS
            orders                  12000  1.50 KiB  2023-11-14T22:13:20Z  1,2
            a-longer-name               7       3 B  -                     -
        "#]]
        .assert_eq(&sheet().table());
    }

    #[test]
    fn json_has_numbers_as_numbers_and_times_in_milliseconds() {
        let json = sheet().json();
        assert_eq!(json[0]["log_end_offset"], 12_000);
        assert_eq!(json[0]["size"], 1_536);
        assert_eq!(json[0]["newest"], 1_700_000_000_000_i64);
        assert_eq!(json[0]["replicas"], json!([1, 2]));
        assert_eq!(json[1]["newest"], Value::Null);
    }

    #[test]
    fn an_empty_sheet_still_has_its_header() {
        assert_eq!(Sheet::new(&["group_id", "state"]).table(), "GROUP-ID  STATE\n");
    }

    #[test]
    fn one_failure_is_told_as_itself_and_several_are_counted() {
        let refused = || RequestError::NoLeader { subject: "lines-0".to_owned() };
        let mut one = Outcomes::default();
        one.failed("topic orders", refused());
        let error = one.finish(Format::Json).unwrap_err();
        assert_eq!(format!("{error:#}"), "topic orders: lines-0: no leader is known");
        let mut several = Outcomes::default();
        several.failed("topic orders", refused());
        several.done("topic lines", "deleted");
        let error = several.finish(Format::Table).unwrap_err();
        assert_eq!(error.to_string(), "1 of 2 failed");
    }
}
