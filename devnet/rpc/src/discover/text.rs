//! The form of the list of methods.
//!
//! ```text
//! = Title of a section
//!
//! name | other name(param: Type, param?: [Type]) -> Type?
//!   What it does, in one line.
//! ```

use std::fmt;

/// Methods that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section<'a> {
    /// What they are about.
    pub title: &'a str,
    /// In the order in which a reader wants them.
    pub methods: Vec<Method<'a>>,
}

/// A method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method<'a> {
    /// All its names; the first is the one to use.
    pub names: Vec<&'a str>,
    /// By position.
    pub params: Vec<Param<'a>>,
    /// What it answers.
    pub result: Type<'a>,
    /// What it does.
    pub summary: &'a str,
}

/// A parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// Its name.
    pub name: &'a str,
    /// It may not be left out.
    pub required: bool,
    /// Its type.
    pub kind: Type<'a>,
}

/// A type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Type<'a> {
    /// Its name.
    pub name: &'a str,
    /// A list of these.
    pub list: bool,
    /// Or null.
    pub nullable: bool,
}

impl fmt::Display for Type<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let null = if self.nullable { "?" } else { "" };
        match self.list {
            true => write!(f, "[{}]{null}", self.name),
            false => write!(f, "{}{null}", self.name),
        }
    }
}

impl fmt::Display for Param<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.required { "" } else { "?" };
        write!(f, "{}{mark}: {}", self.name, self.kind)
    }
}

/// Reads the list.
///
/// # Panics
/// Where a line is in no form: a mistake in this crate, which every start of a server would show.
#[must_use]
pub fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let methods = sections.last_mut().map(|section| &mut section.methods);
        if let Some(title) = line.strip_prefix("= ") {
            let methods = Vec::new();
            sections.push(Section { title, methods });
        } else if let Some(summary) = line.strip_prefix("  ") {
            let method = methods.and_then(|methods| methods.last_mut());
            method.expect("a summary belongs to a method").summary = summary;
        } else {
            let method = method(line).unwrap_or_else(|| panic!("no method: {line}"));
            methods.expect("a method belongs to a section").push(method);
        }
    }
    sections
}

fn method(line: &str) -> Option<Method<'_>> {
    let (names, rest) = line.split_once('(')?;
    let (params, result) = rest.split_once(") -> ")?;
    let params = params.split(", ").filter(|param| !param.is_empty());
    Some(Method {
        names: names.split(" | ").collect(),
        params: params.map(param).collect::<Option<_>>()?,
        result: kind(result),
        summary: "",
    })
}

fn param(text: &str) -> Option<Param<'_>> {
    let (name, of) = text.split_once(": ")?;
    let optional = name.strip_suffix('?');
    Some(Param {
        name: optional.unwrap_or(name),
        required: optional.is_none(),
        kind: kind(of),
    })
}

fn kind(text: &str) -> Type<'_> {
    let plain = text.strip_suffix('?');
    let nullable = plain.is_some();
    let text = plain.unwrap_or(text);
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    Type {
        name: inner.unwrap_or(text),
        list: inner.is_some(),
        nullable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_is_meant() {
        let found = sections("= Title\n\na | b(x: Hash, y?: [Slot]) -> [Object]?\n  Does it.\n");
        let kind = |name, list, nullable| Type {
            name,
            list,
            nullable,
        };
        let method = Method {
            names: vec!["a", "b"],
            params: vec![
                Param {
                    name: "x",
                    required: true,
                    kind: kind("Hash", false, false),
                },
                Param {
                    name: "y",
                    required: false,
                    kind: kind("Slot", true, false),
                },
            ],
            result: kind("Object", true, true),
            summary: "Does it.",
        };
        let expect = Section {
            title: "Title",
            methods: vec![method],
        };
        assert_eq!(found, [expect]);
    }

    #[test]
    #[should_panic(expected = "no method")]
    fn a_line_in_no_form_is_a_mistake() {
        let _ = sections("= Title\nsomething else\n");
    }
}
