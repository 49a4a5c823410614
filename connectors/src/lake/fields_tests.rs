//! Objects into columns: what goes where, what is undone, and a comparison with a model. Pure.

use arrow::array::{Array, ArrayRef};
use arrow::util::display::array_value_to_string;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::super::layout::KeyFormat;
use super::*;

fn layout(format: Format) -> Layout {
    Layout { format, key: KeyFormat::None, metadata_prefix: "_".to_owned(), compression_level: 3 }
}

fn declared(undeclared: Undeclared) -> Format {
    let column = |name: &str, kind| DeclaredColumn { name: name.to_owned(), kind };
    let columns = vec![column("a", DeclaredKind::Int64), column("b", DeclaredKind::String)];
    Format::Declared { columns, undeclared }
}

fn cell(array: &ArrayRef, row: usize) -> String {
    if array.is_null(row) { "-".to_owned() } else { array_value_to_string(array, row).unwrap() }
}

/// Pushes each object; the columns, or why one is refused.
fn check(format: Format, objects: &[&str], want: &Expect) {
    let mut fields = Fields::new(&format);
    let mut said = String::new();
    for json in objects {
        if let Err(error) = fields.push(json.as_bytes()) {
            said += &format!("refused {json}: {error}\n");
        }
    }
    let heading = fields.heading(&layout(format));
    let rows = fields.rows;
    let arrays = fields.take(&heading);
    let names = heading.columns.iter().map(|it| it.name.clone());
    for (name, array) in names.chain(heading.has_rest.then(|| "_rest".to_owned())).zip(&arrays) {
        let cells: Vec<String> = (0..rows).map(|row| cell(array, row)).collect();
        said += &format!("{name}: {}\n", cells.join(" | "));
    }
    want.assert_eq(&said);
}

#[test]
fn each_field_that_occurs_gets_a_column_in_the_order_of_first_sight() {
    check(
        Format::Inferred,
        &[
            r#"{"b": 1, "a": "x"}"#,
            r#" { "a" : "y" , "c" : { "d" : [ 1 , 2 ] } } "#,
            "{}",
            r#"{"c": null, "never": null, "b": 2}"#,
        ],
        &expect![[r#"
            b: 1 | - | - | 2
            a: x | y | - | -
            c: - | { "d" : [ 1 , 2 ] } | - | -
        "#]],
    );
}

#[test]
fn a_field_given_twice_counts_as_given_last() {
    check(
        Format::Inferred,
        &[r#"{"a": 1, "a": 2}"#, r#"{"a": 3, "b": 1, "a": null}"#, r#"{"b": 2, "a": 4, "b": 3}"#],
        &expect![[r#"
            a: 2 | - | 4
            b: - | 1 | 3
        "#]],
    );
}

#[test]
fn what_is_refused_leaves_nothing_behind() {
    check(
        Format::Inferred,
        &[
            r#"{"a": 1, "b": "x"}"#,
            r#"{"a": 2, "b": "y", "c": 1"#,
            r#"{"a": 2, "c": tru}"#,
            r#"{"a": 2, "c": "\ud800"}"#,
            r#"{"a": "text", "b": "\ud800"}"#,
            r#"{"a": 2} trailing"#,
            r#"["a"]"#,
            "",
            "nonsense",
            r#"{"a": 3, "b": "z"}"#,
        ],
        &expect![[r#"
            refused {"a": 2, "b": "y", "c": 1: not a JSON object: EOF while parsing an object at line 1 column 25
            refused {"a": 2, "c": tru}: not a JSON object: expected ident at line 1 column 18
            refused {"a": 2, "c": "\ud800"}: field `c`: a string with an escape that is no character
            refused {"a": "text", "b": "\ud800"}: field `b`: a string with an escape that is no character
            refused {"a": 2} trailing: not a JSON object: trailing characters at line 1 column 10
            refused ["a"]: not a JSON object: invalid type: sequence, expected an object at line 1 column 0
            refused : not a JSON object: EOF while parsing a value at line 1 column 0
            refused nonsense: not a JSON object: expected ident at line 1 column 2
            a: 1 | 3
            b: x | z
        "#]],
    );
    let mut fields = Fields::new(&Format::Inferred);
    assert!(fields.push(b"{\"a\": \"\xff\"}").is_err(), "text that is not UTF-8 is no JSON");
    assert!(fields.push(b"{\"\xff\": 1}").is_err());
}

#[test]
fn fields_that_are_not_declared_are_kept_dropped_or_refused() {
    let objects = [
        r#"{"x": {"y": [1]}, "a": 1, "z\n": "\""}"#,
        r#"{"b": "two", "a": 2}"#,
        r#"{"a": "three", "x": 1}"#,
    ];
    check(
        declared(Undeclared::Keep),
        &objects,
        &expect![[r#"
        refused {"a": "three", "x": 1}: field `a`: expected an integer of 64 bits, found a string
        a: 1 | 2
        b: - | two
        _rest: {"x":{"y": [1]},"z\n":"\""} | -
    "#]],
    );
    check(
        declared(Undeclared::Drop),
        &objects,
        &expect![[r#"
        refused {"a": "three", "x": 1}: field `a`: expected an integer of 64 bits, found a string
        a: 1 | 2
        b: - | two
    "#]],
    );
    check(
        declared(Undeclared::Reject),
        &objects,
        &expect![[r#"
            refused {"x": {"y": [1]}, "a": 1, "z\n": "\""}: field `x` is not declared
            refused {"a": "three", "x": 1}: field `x` is not declared
            a: 2
            b: two
        "#]],
    );
}

#[test]
fn fields_named_like_our_columns_and_those_without_a_name_are_kept() {
    check(
        Format::Inferred,
        &[r#"{"date": 1, "date_": 2, "_offset": 3, "": 4}"#, r#"{"": {"a": 1}, "HOUR": 5}"#],
        &expect![[r#"
            date_: 1 | -
            date__: 2 | -
            _offset_: 3 | -
            HOUR_: - | 5
            _rest: {"":4} | {"":{"a": 1}}
        "#]],
    );
}

#[test]
fn fields_beyond_the_columns_a_file_may_have_are_kept_in_the_rest() {
    let mut fields = Fields::new(&Format::Inferred);
    for field in 0..COLUMNS_MAX + 2 {
        fields.push(format!("{{\"f{field}\": {field}}}").as_bytes()).unwrap();
    }
    let heading = fields.heading(&layout(Format::Inferred));
    assert_eq!(heading.columns.len(), COLUMNS_MAX);
    let rest = fields.take(&heading).pop().unwrap();
    assert_eq!(cell(&rest, COLUMNS_MAX), format!("{{\"f{COLUMNS_MAX}\":{COLUMNS_MAX}}}"));
    assert_eq!(cell(&rest, 0), "-");
}

#[test]
fn all_files_of_a_flush_have_the_columns_of_all() {
    let mut one = Fields::new(&Format::Inferred);
    one.push(br#"{"a": 1, "b": 9007199254740993, "c": true}"#).unwrap();
    let mut other = Fields::new(&Format::Inferred);
    other.push(br#"{"d": "x", "a": 1.5, "b": 1.5, "c": "y"}"#).unwrap();
    let layout = layout(Format::Inferred);
    let mut heading = Heading::default();
    heading.unite(one.heading(&layout));
    heading.unite(other.heading(&layout));
    let kinds: Vec<(&str, Kind)> =
        heading.columns.iter().map(|it| (it.name.as_str(), it.kind)).collect();
    let (a, b, c, d) =
        (("a", Kind::Double), ("b", Kind::Json), ("c", Kind::Json), ("d", Kind::Text));
    assert_eq!(kinds, [a, b, c, d]);
    let row = |fields: &mut Fields| -> Vec<String> {
        fields.take(&heading).iter().map(|array| cell(array, 0)).collect()
    };
    assert_eq!(row(&mut one), ["1.0", "9007199254740993", "true", "-"]);
    assert_eq!(row(&mut other), ["1.5", "1.5", "\"y\"", "x"]);
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-5_i64..5).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-8_i32..8).prop_map(|n| Value::from(f64::from(n) / 4.0)),
        "[a\"\\\\\né]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[ab]", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// What a cell says, as JSON, given the kind of its column.
fn told(kind: Kind, array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    let text = array_value_to_string(array, row).unwrap();
    match kind {
        Kind::Text => Value::from(text),
        _ => serde_json::from_str(&text).unwrap(),
    }
}

/// Numbers as doubles where they are written so: 1.0 is what became of 1 among doubles.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || (a.as_f64() == b.as_f64()),
        _ => a == b,
    }
}

proptest! {
    #[test]
    fn each_cell_holds_what_its_object_says(
        objects in prop::collection::vec(
            prop::collection::btree_map("[a-d]", json(), 0..4), 0..12),
    ) {
        let mut fields = Fields::new(&Format::Inferred);
        for object in &objects {
            let object: Map<String, Value> = object.clone().into_iter().collect();
            fields.push(Value::Object(object).to_string().as_bytes()).unwrap();
        }
        let heading = fields.heading(&layout(Format::Inferred));
        let arrays = fields.take(&heading);
        for (row, object) in objects.iter().enumerate() {
            for (of, array) in heading.columns.iter().zip(&arrays) {
                let want = object.get(&of.name).cloned().unwrap_or(Value::Null);
                let got = told(of.kind, array, row);
                prop_assert!(same(&got, &want), "{}: {got} is not {want}", of.name);
            }
            let columns = heading.columns.iter().filter(|it| object.contains_key(&it.name));
            let nulls = object.values().filter(|value| value.is_null()).count();
            prop_assert!(columns.count() + nulls >= object.len(), "a value is lost");
        }
    }
}
