//! One JSON value into one column.
//!
//! An undeclared column takes the kind of its first value and is widened when another does not fit: integers become
//! doubles if none changes by it; everything else that differs becomes JSON text. A value is never changed or lost:
//! integers beyond 64 bits and numbers beyond doubles are JSON text, too. A declared column takes what
//! its kind can hold, and refuses the rest. Null is an empty cell. Pure.

use std::borrow::Cow;

use super::column::{Column, Kind, double_of, is_exact_as_double};
use super::layout::DeclaredKind;

/// A JSON value, looked at no deeper than needed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number with a fraction or an exponent.
    Double(f64),
    /// A string, without its escapes.
    Text(Cow<'a, str>),
    /// An object, an array, or a number that neither `i64` nor `f64` holds.
    Other,
}

/// A value that its column cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ValueError {
    /// The text has an escape that is no character.
    #[error("a string with an escape that is no character")]
    Escape,
    /// A declared column holds something else.
    #[error("expected {expected}, found {found}")]
    Kind {
        /// What the settings declare.
        expected: &'static str,
        /// What the record has.
        found: &'static str,
    },
}

impl Scalar<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an integer",
            Self::Double(_) => "a number",
            Self::Text(_) => "a string",
            Self::Other => "an object, a list or a huge number",
        }
    }
}

/// Reads `raw`, one valid JSON value without white space around it.
///
/// # Errors
/// A string has an escape that is no character: the only thing that a parser lets pass who does not decode.
pub(crate) fn scalar(raw: &str) -> Result<Scalar<'_>, ValueError> {
    Ok(match raw.as_bytes().first() {
        Some(b'"') => {
            let inner = &raw[1..raw.len() - 1];
            if inner.as_bytes().contains(&b'\\') {
                let text: String = serde_json::from_str(raw).map_err(|_| ValueError::Escape)?;
                Scalar::Text(Cow::Owned(text))
            } else {
                Scalar::Text(Cow::Borrowed(inner))
            }
        }
        Some(b't') => Scalar::Bool(true),
        Some(b'f') => Scalar::Bool(false),
        Some(b'n') => Scalar::Null,
        Some(b'-' | b'0'..=b'9') => number(raw),
        _ => Scalar::Other,
    })
}

fn number(raw: &str) -> Scalar<'static> {
    if raw.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        let double = raw.parse::<f64>().ok().filter(|double| double.is_finite());
        double.map_or(Scalar::Other, Scalar::Double)
    } else {
        raw.parse().map_or(Scalar::Other, Scalar::Int)
    }
}

/// Adds `value`, written `raw`, to an undeclared column as its next row, widening the column if it must be. Null adds
/// no row.
pub(crate) fn absorb(column: &mut Column, value: &Scalar<'_>, raw: &str) {
    let Some(kind) = kind_of(value) else { return };
    let Some(own) = column.kind() else {
        column.set_kind(kind);
        return push(column, value, raw);
    };
    match (own, value) {
        (Kind::Double, Scalar::Int(int)) if is_exact_as_double(*int) => {
            column.push_double(double_of(*int));
        }
        (Kind::Int, Scalar::Double(double)) if column.widen_to_double() => {
            column.push_double(*double);
        }
        _ if own == kind => push(column, value, raw),
        _ => {
            if own != Kind::Json {
                column.widen_to_json();
            }
            column.push_text(raw);
        }
    }
}

fn kind_of(value: &Scalar<'_>) -> Option<Kind> {
    match value {
        Scalar::Null => None,
        Scalar::Bool(_) => Some(Kind::Bool),
        Scalar::Int(_) => Some(Kind::Int),
        Scalar::Double(_) => Some(Kind::Double),
        Scalar::Text(_) => Some(Kind::Text),
        Scalar::Other => Some(Kind::Json),
    }
}

/// Adds `value`, which is of the column's kind.
fn push(column: &mut Column, value: &Scalar<'_>, raw: &str) {
    match value {
        Scalar::Null => {}
        Scalar::Bool(bool) => column.push_bool(*bool),
        Scalar::Int(int) => column.push_long(*int),
        Scalar::Double(double) => column.push_double(*double),
        Scalar::Text(text) => column.push_text(text),
        Scalar::Other => column.push_text(raw),
    }
}

/// Adds `raw` to a declared column as its next row. Null adds no row.
pub(crate) fn accept(
    column: &mut Column,
    declared: DeclaredKind,
    raw: &str,
) -> Result<(), ValueError> {
    if raw == "null" {
        return Ok(());
    }
    if declared == DeclaredKind::Json {
        column.push_text(raw);
        return Ok(());
    }
    let value = scalar(raw)?;
    let refuse = |expected| Err(ValueError::Kind { expected, found: value.name() });
    match declared {
        DeclaredKind::Bool => match value {
            Scalar::Bool(bool) => column.push_bool(bool),
            _ => return refuse("a bool"),
        },
        DeclaredKind::Int64 => match integer(&value) {
            Some(int) => column.push_long(int),
            None => return refuse("an integer of 64 bits"),
        },
        DeclaredKind::Float64 => match value {
            Scalar::Double(double) => column.push_double(double),
            Scalar::Int(int) => column.push_double(double_of(int)),
            _ => return refuse("a number"),
        },
        DeclaredKind::Timestamp => match micros(&value) {
            Some(micros) => column.push_long(micros),
            None => return refuse("a time as RFC 3339 has it, or milliseconds since 1970"),
        },
        DeclaredKind::String | DeclaredKind::Json => match &value {
            Scalar::Text(text) => column.push_text(text),
            _ => column.push_text(raw),
        },
    }
    Ok(())
}

/// An integer, also one that is written `5.0`.
fn integer(value: &Scalar<'_>) -> Option<i64> {
    match value {
        Scalar::Int(int) => Some(*int),
        Scalar::Double(double) => {
            let int = format!("{double:.0}").parse().ok().filter(|int| is_exact_as_double(*int))?;
            (double_of(int).total_cmp(double) == std::cmp::Ordering::Equal).then_some(int)
        }
        _ => None,
    }
}

fn micros(value: &Scalar<'_>) -> Option<i64> {
    match value {
        Scalar::Int(millis) => millis.checked_mul(1000),
        Scalar::Text(text) => Some(text.parse::<jiff::Timestamp>().ok()?.as_microsecond()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::util::display::array_value_to_string;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    fn rendered(column: Column, kind: Kind, rows: usize) -> String {
        let array = column.into_array(kind, rows);
        let cell = |row| match array.is_null(row) {
            true => "-".to_owned(),
            false => array_value_to_string(&array, row).unwrap(),
        };
        (0..rows).map(cell).collect::<Vec<_>>().join(" | ")
    }

    fn inferred(values: &[&str]) -> String {
        let mut column = Column::new(None);
        for (row, raw) in values.iter().enumerate() {
            absorb(&mut column, &scalar(raw).unwrap(), raw);
            column.fill(row + 1);
        }
        let Some(kind) = column.kind() else { return "no column".to_owned() };
        format!("{kind:?}: {}", rendered(column, kind, values.len()))
    }

    fn check(cases: &[&[&str]], want: &Expect) {
        let said: Vec<String> = cases.iter().map(|values| inferred(values)).collect();
        want.assert_eq(&(said.join("\n") + "\n"));
    }

    #[test]
    fn a_column_takes_the_kind_of_its_first_value_and_is_widened_without_changing_any() {
        check(
            &[
                &["null", "null"],
                &["null", "1", "null", "-2"],
                &["true", "null", "false"],
                &[r#""a""#, r#""\u00e9\n""#, r#""""#],
                &["1", "2.5", "3"],
                &["2.5", "1", "null"],
                &["9007199254740993", "1.5"],
                &["1.5", "9007199254740993"],
                &["1", r#""a\"b""#, "null", "true"],
                &["true", "1"],
                &[r#""x""#, r#"{"a": [1, 2]}"#],
                &["[1]", r#""x""#, "1e5"],
                &["18446744073709551616", "5"],
                &["1e999"],
            ],
            &expect![[r#"
                no column
                Int: - | 1 | - | -2
                Bool: true | - | false
                Text: a | é
                 | 
                Double: 1.0 | 2.5 | 3.0
                Double: 2.5 | 1.0 | -
                Json: 9007199254740993 | 1.5
                Json: 1.5 | 9007199254740993
                Json: 1 | "a\"b" | - | true
                Json: true | 1
                Json: "x" | {"a": [1, 2]}
                Json: [1] | "x" | 1e5
                Json: 18446744073709551616 | 5
                Json: 1e999
            "#]],
        );
    }

    fn check_declared(declared: DeclaredKind, want: &Expect) {
        let values = [
            "true",
            "5",
            "5.0",
            "5.5",
            "1e300",
            r#""2024-02-29T23:59:59.123456+01:00""#,
            r#""x""#,
            "[1, 2]",
            "null",
        ];
        let mut said = String::new();
        for raw in values {
            let mut column = Column::new(Some(declared.kind()));
            let outcome = match accept(&mut column, declared, raw) {
                Ok(()) => rendered(column, declared.kind(), 1),
                Err(error) => format!("refused: {error}"),
            };
            said += &format!("{raw} -> {outcome}\n");
        }
        want.assert_eq(&said);
    }

    #[test]
    fn a_declared_column_takes_what_its_kind_holds_and_refuses_the_rest() {
        check_declared(
            DeclaredKind::Bool,
            &expect![[r#"
            true -> true
            5 -> refused: expected a bool, found an integer
            5.0 -> refused: expected a bool, found a number
            5.5 -> refused: expected a bool, found a number
            1e300 -> refused: expected a bool, found a number
            "2024-02-29T23:59:59.123456+01:00" -> refused: expected a bool, found a string
            "x" -> refused: expected a bool, found a string
            [1, 2] -> refused: expected a bool, found an object, a list or a huge number
            null -> -
        "#]],
        );
        check_declared(
            DeclaredKind::Int64,
            &expect![[r#"
            true -> refused: expected an integer of 64 bits, found a bool
            5 -> 5
            5.0 -> 5
            5.5 -> refused: expected an integer of 64 bits, found a number
            1e300 -> refused: expected an integer of 64 bits, found a number
            "2024-02-29T23:59:59.123456+01:00" -> refused: expected an integer of 64 bits, found a string
            "x" -> refused: expected an integer of 64 bits, found a string
            [1, 2] -> refused: expected an integer of 64 bits, found an object, a list or a huge number
            null -> -
        "#]],
        );
        check_declared(
            DeclaredKind::Float64,
            &expect![[r#"
            true -> refused: expected a number, found a bool
            5 -> 5.0
            5.0 -> 5.0
            5.5 -> 5.5
            1e300 -> 1e300
            "2024-02-29T23:59:59.123456+01:00" -> refused: expected a number, found a string
            "x" -> refused: expected a number, found a string
            [1, 2] -> refused: expected a number, found an object, a list or a huge number
            null -> -
        "#]],
        );
    }

    #[test]
    fn text_times_and_json_text_take_more_than_one_kind() {
        check_declared(
            DeclaredKind::String,
            &expect![[r#"
            true -> true
            5 -> 5
            5.0 -> 5.0
            5.5 -> 5.5
            1e300 -> 1e300
            "2024-02-29T23:59:59.123456+01:00" -> 2024-02-29T23:59:59.123456+01:00
            "x" -> x
            [1, 2] -> [1, 2]
            null -> -
        "#]],
        );
        check_declared(
            DeclaredKind::Timestamp,
            &expect![[r#"
            true -> refused: expected a time as RFC 3339 has it, or milliseconds since 1970, found a bool
            5 -> 1970-01-01T00:00:00.005Z
            5.0 -> refused: expected a time as RFC 3339 has it, or milliseconds since 1970, found a number
            5.5 -> refused: expected a time as RFC 3339 has it, or milliseconds since 1970, found a number
            1e300 -> refused: expected a time as RFC 3339 has it, or milliseconds since 1970, found a number
            "2024-02-29T23:59:59.123456+01:00" -> 2024-02-29T22:59:59.123456Z
            "x" -> refused: expected a time as RFC 3339 has it, or milliseconds since 1970, found a string
            [1, 2] -> refused: expected a time as RFC 3339 has it, or milliseconds since 1970, found an object, a list or a huge number
            null -> -
        "#]],
        );
        check_declared(
            DeclaredKind::Json,
            &expect![[r#"
            true -> true
            5 -> 5
            5.0 -> 5.0
            5.5 -> 5.5
            1e300 -> 1e300
            "2024-02-29T23:59:59.123456+01:00" -> "2024-02-29T23:59:59.123456+01:00"
            "x" -> "x"
            [1, 2] -> [1, 2]
            null -> -
        "#]],
        );
    }

    #[test]
    fn an_escape_that_is_no_character_is_refused() {
        assert_eq!(scalar(r#""\ud800""#), Err(ValueError::Escape));
    }

    proptest! {
        #[test]
        fn a_truncated_column_is_as_if_the_rest_had_never_been(
            values in prop::collection::vec(
                prop::sample::select(vec!["1", "2", "null", "7"]), 0..20),
            keep in 0_usize..20,
        ) {
            let keep = keep.min(values.len());
            let mut column = Column::new(Some(Kind::Int));
            for (row, raw) in values.iter().enumerate() {
                absorb(&mut column, &scalar(raw).unwrap(), raw);
                column.fill(row + 1);
            }
            column.truncate(keep);
            let array = column.into_array(Kind::Int, keep);
            let ints = array.as_primitive::<arrow::datatypes::Int64Type>();
            let got: Vec<Option<i64>> = ints.iter().collect();
            let want: Vec<Option<i64>> =
                values[..keep].iter().map(|raw| raw.parse().ok()).collect();
            prop_assert_eq!(array.len(), keep);
            prop_assert_eq!(got, want);
        }
    }
}
