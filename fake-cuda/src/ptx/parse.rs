//! The lines of a PTX file as statements. No meaning yet.

/// A module as written.
#[derive(Debug, Default)]
pub(super) struct Module {
    pub(super) version: u32,
    pub(super) target: u32,
    pub(super) kernels: Vec<Kernel>,
}

/// A kernel as written.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    pub(super) name: String,
    /// Name, alignment and size of each parameter.
    pub(super) parameters: Vec<Variable>,
    pub(super) shared: Vec<Variable>,
    pub(super) max_threads: Option<u32>,
    pub(super) statements: Vec<Statement>,
    /// Label and the number of the statement that it stands before.
    pub(super) labels: Vec<(String, usize)>,
}

/// A variable in parameter or shared space; bytes.
#[derive(Debug)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) align: usize,
    pub(super) size: usize,
}

/// `@!%p1 opcode a, b, c;`
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) line: u32,
    /// Predicate, and whether it is negated.
    pub(super) guard: Option<(String, bool)>,
    pub(super) opcode: String,
    pub(super) operands: Vec<String>,
}

/// Where the reader is.
enum Place {
    Outside,
    Parameters,
    Directives,
    Body,
}

pub(super) fn module(text: &str) -> Result<Module, String> {
    let mut module = Module::default();
    let mut place = Place::Outside;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split("//").next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let at = |what: String| format!("PTX line {number}: {what}");
        place = match place {
            Place::Outside => outside(&mut module, line).map_err(at)?,
            Place::Parameters => parameter(&mut module, line).map_err(at)?,
            Place::Directives => directive(&mut module, line).map_err(at)?,
            Place::Body => body(&mut module, line, number).map_err(at)?,
        };
    }
    if matches!(place, Place::Outside) && !module.kernels.is_empty() {
        Ok(module)
    } else {
        Err("PTX: ends inside a kernel, or holds none".into())
    }
}

fn last(module: &mut Module) -> Result<&mut Kernel, String> {
    module.kernels.last_mut().ok_or_else(|| "no kernel here".into())
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("not a number: {text:?}"))
}

fn outside(module: &mut Module, line: &str) -> Result<Place, String> {
    if let Some(version) = line.strip_prefix(".version ") {
        let (major, minor) = version.split_once('.').ok_or("version without a point")?;
        module.version = 10 * number(major)? as u32 + number(minor)? as u32;
    } else if let Some(target) = line.strip_prefix(".target sm_") {
        module.target = number(target)? as u32;
    } else if let Some(entry) = line.strip_prefix(".visible .entry ") {
        let name = entry.strip_suffix('(').ok_or("parameters on the same line")?;
        module.kernels.push(Kernel { name: name.into(), ..Kernel::default() });
        return Ok(Place::Parameters);
    } else if !(line.starts_with(".address_size 64") || line.starts_with(".global ")) {
        return Err(format!("unknown directive {line:?}"));
    }
    Ok(Place::Outside)
}

fn parameter(module: &mut Module, line: &str) -> Result<Place, String> {
    if line == ")" {
        return Ok(Place::Directives);
    }
    let text = line.strip_prefix(".param ").ok_or("a parameter must be here")?;
    let parameter = variable(text.trim_end_matches(','))?;
    last(module)?.parameters.push(parameter);
    Ok(Place::Parameters)
}

/// `.align 16 .b8 name[32]` or `.u32 name`.
fn variable(text: &str) -> Result<Variable, String> {
    let mut align = None;
    let mut unit = None;
    let mut words = text.split_whitespace();
    let mut name = "";
    while let Some(word) = words.next() {
        match word {
            ".align" => align = Some(number(words.next().unwrap_or_default())?),
            ".b8" | ".u8" => unit = Some(1),
            ".b32" | ".u32" | ".s32" => unit = Some(4),
            ".b64" | ".u64" | ".s64" => unit = Some(8),
            other => name = other,
        }
    }
    let unit = unit.ok_or_else(|| format!("a type is missing in {text:?}"))?;
    let (name, count) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
        Some((name, count)) => (name, number(count)?),
        None => (name, 1),
    };
    Ok(Variable { name: name.into(), align: align.unwrap_or(unit), size: unit * count })
}

fn directive(module: &mut Module, line: &str) -> Result<Place, String> {
    if line == "{" {
        return Ok(Place::Body);
    }
    if let Some(sizes) = line.strip_prefix(".maxntid ") {
        let mut threads = 1;
        for size in sizes.split(',') {
            threads *= number(size.trim())? as u32;
        }
        last(module)?.max_threads = Some(threads);
    } else if !line.starts_with(".minnctapersm ") {
        return Err(format!("unknown directive {line:?}"));
    }
    Ok(Place::Directives)
}

fn body(module: &mut Module, line: &str, number: u32) -> Result<Place, String> {
    let kernel = last(module)?;
    if line == "}" {
        return Ok(Place::Outside);
    }
    if let Some(label) = line.strip_suffix(':') {
        kernel.labels.push((label.into(), kernel.statements.len()));
        return Ok(Place::Body);
    }
    let text = line.strip_suffix(';').ok_or("a statement must end with its line")?.trim();
    if let Some(shared) = text.strip_prefix(".shared ") {
        kernel.shared.push(variable(shared)?);
    } else if !(text.starts_with(".reg ") || text.starts_with(".pragma ")) {
        kernel.statements.push(statement(text, number)?);
    }
    Ok(Place::Body)
}

fn statement(text: &str, line: u32) -> Result<Statement, String> {
    let (guard, text) = match text.strip_prefix('@') {
        None => (None, text),
        Some(text) => {
            let (guard, rest) =
                text.split_once(char::is_whitespace).ok_or("a guard without an instruction")?;
            let negated = guard.starts_with('!');
            (Some((guard.trim_start_matches('!').into(), negated)), rest.trim())
        }
    };
    let (opcode, operands) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    Ok(Statement { line, guard, opcode: opcode.into(), operands: operands_of(operands) })
}

/// Splits at commas outside of braces.
fn operands_of(text: &str) -> Vec<String> {
    let mut operands = Vec::new();
    let mut depth = 0;
    let mut current = String::new();
    for c in text.chars() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 {
            operands.push(current.trim().to_owned());
            current.clear();
        } else {
            current.push(c);
        }
    }
    if !current.trim().is_empty() {
        operands.push(current.trim().to_owned());
    }
    operands
}
