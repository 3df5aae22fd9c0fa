//! Which key of a recipe is at fault.
//!
//! Errors inside of tables that have a `kind` tell the table only. The key at fault is the one without
//! which the error is another: it is looked for from the outside in.

use toml::{Table, Value};

/// The path of the key that `parse` fails for, such as `batch.tunings.share`; empty where no single
/// key is at fault.
pub fn find(table: &Table, parse: &dyn Fn(Table) -> Result<(), String>) -> String {
    let mut path = String::new();
    let mut steps: Vec<Step> = vec![];
    let Err(error) = parse(table.clone()) else { return path };
    // Of a table that lacks a key no other key is at fault.
    let is_missing = error.starts_with("missing field");
    while let Some(step) = entries(table, &steps).into_iter().find(|(step, holds_more)| {
        let mut without = table.clone();
        let removed = remove(&mut without, &steps, step);
        (*holds_more || !is_missing) && removed && parse(without).err().as_ref() != Some(&error)
    }) {
        let (step, _) = step;
        match &step {
            Step::Key(key) if path.is_empty() => path += key,
            Step::Key(key) => path += &format!(".{key}"),
            Step::Index(index) => path += &format!("[{index}]"),
        }
        steps.push(step);
    }
    path
}

/// Keys that tell what the others of their table are.
const KINDS: [&str; 2] = ["kind", "net"];

/// One step into a table or array.
#[derive(Clone)]
enum Step {
    Key(String),
    Index(usize),
}

/// What the value at the end of `steps` holds, and whether that holds something in turn.
fn entries(table: &Table, steps: &[Step]) -> Vec<(Step, bool)> {
    let holds_more = |value: &Value| value.is_table() || value.is_array();
    let keys = |table: &Table| -> Vec<_> {
        let entry = |(key, value): (&String, &Value)| (Step::Key(key.clone()), holds_more(value));
        let mut keys: Vec<_> = table.iter().map(entry).collect();
        // Without its kind nothing of a table can be understood: that is at fault if nothing else is.
        keys.sort_by_key(|(step, _)| matches!(step, Step::Key(key) if KINDS.contains(&&**key)));
        keys
    };
    let mut value: Option<&Value> = None;
    for step in steps {
        let next = match (value, step) {
            (None, Step::Key(key)) => table.get(key),
            (Some(Value::Table(table)), Step::Key(key)) => table.get(key),
            (Some(Value::Array(array)), Step::Index(index)) => array.get(*index),
            _ => None,
        };
        if next.is_none() {
            return vec![];
        }
        value = next;
    }
    match value {
        None => keys(table),
        Some(Value::Table(table)) => keys(table),
        // Of numbers the whole array is at fault.
        Some(Value::Array(array)) if array.iter().any(holds_more) => array
            .iter()
            .map(holds_more)
            .enumerate()
            .map(|(i, more)| (Step::Index(i), more))
            .collect(),
        Some(_) => vec![],
    }
}

/// Takes out an entry of the value at the end of `steps`; whether there is such.
fn remove(table: &mut Table, steps: &[Step], last: &Step) -> bool {
    let Some((first, rest)) = steps.split_first() else {
        return matches!(last, Step::Key(key) if table.remove(key).is_some());
    };
    let Step::Key(key) = first else { return false };
    let mut value = table.get_mut(key);
    for step in rest {
        value = match (value, step) {
            (Some(Value::Table(table)), Step::Key(key)) => table.get_mut(key),
            (Some(Value::Array(array)), Step::Index(index)) => array.get_mut(*index),
            _ => return false,
        };
    }
    match (value, last) {
        (Some(Value::Table(table)), Step::Key(key)) => table.remove(key).is_some(),
        (Some(Value::Array(array)), Step::Index(index)) if *index < array.len() => {
            array.remove(*index);
            true
        }
        _ => false,
    }
}

/// The number, from 1, of the first line from `start` (a place in bytes) on that sets the last key of
/// `path`.
pub fn line_of(text: &str, start: usize, path: &str) -> usize {
    let key = path.rsplit('.').next().unwrap_or(path);
    let key = key.split('[').next().unwrap_or(key);
    let first = text[..start.min(text.len())].lines().count().max(1);
    let sets = |line: &str| {
        line.match_indices(key).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let is_whole = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-');
            is_whole && line[at + key.len()..].trim_start().starts_with(['=', ']'])
        })
    };
    let found = text.lines().enumerate().skip(first - 1).find(|(_, line)| sets(line));
    found.map_or(first, |(index, _)| index + 1)
}
