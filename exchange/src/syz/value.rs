//! The arguments of a call in a program of syzkaller.

/// The limit of values inside values. Descriptions of real calls nest some ten deep.
const MAX_DEPTH: usize = 64;

/// An argument, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number: `0x1000`.
    Number(u64),
    /// Names of flags: `PROT_READ|PROT_WRITE`.
    Names(String),
    /// A resource, by its number: `r0`.
    Resource(u32),
    /// A pointer: `&(0x7f0000001000/0x2000)=nil`.
    Pointer {
        /// The address in the text form; `None` for `AUTO`.
        address: Option<u64>,
        /// The value at the address; `None` if nothing is written there.
        value: Option<Box<Value>>,
    },
    /// A string or a block of data, as the program writes it.
    Data(String),
    /// The parts of a structure or of an array.
    Parts(Vec<Value>),
    /// `nil`: no address, or the end of a range of memory.
    Nil,
    /// `AUTO`, or a member of a union without a value: syzkaller chooses the value.
    Auto,
}

/// A position in a line.
pub(super) struct Cursor<'a> {
    line: &'a str,
    at: usize,
    depth: usize,
}

/// Returns whether a word can have the character.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

impl<'a> Cursor<'a> {
    pub(super) fn new(line: &'a str) -> Cursor<'a> {
        Cursor { line, at: 0, depth: 0 }
    }

    fn rest(&self) -> &'a str {
        &self.line[self.at..]
    }

    /// Returns the column of the next character, counted from 1.
    pub(super) fn column(&self) -> usize {
        1 + self.line[..self.at].chars().count()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest().is_empty()
    }

    pub(super) fn blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// Takes `text` if it comes next.
    pub(super) fn take(&mut self, text: &str) -> bool {
        let is_next = self.rest().starts_with(text);
        self.at += if is_next { text.len() } else { 0 };
        is_next
    }

    /// Takes `text` if it comes next after blanks; otherwise nothing is taken.
    pub(super) fn take_after_blanks(&mut self, text: &str) -> bool {
        let from = self.at;
        self.blanks();
        let is_next = self.take(text);
        if !is_next {
            self.at = from;
        }
        is_next
    }

    pub(super) fn expect(&mut self, text: &str) -> Result<(), String> {
        if self.take(text) { Ok(()) } else { Err(format!("expected `{text}`")) }
    }

    /// Takes letters, digits and underscores.
    pub(super) fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let word = &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn number(&mut self) -> Result<u64, String> {
        let from = self.at;
        let word = self.word();
        let number = match word.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => word.parse(),
        };
        number.map_err(|_| {
            self.at = from;
            "expected a number, such as `0x1000`".into()
        })
    }

    /// Takes values with commas between them, up to and with `end`.
    pub(super) fn values(&mut self, end: &str) -> Result<Vec<Value>, String> {
        let mut values = Vec::new();
        loop {
            self.blanks();
            // syzkaller accepts a comma before the end.
            if self.take(end) {
                return Ok(values);
            }
            values.push(self.value()?);
            self.blanks();
            if !self.take(",") {
                self.expect(end).map_err(|_| format!("expected `,` or `{end}`"))?;
                return Ok(values);
            }
        }
    }

    fn value(&mut self) -> Result<Value, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("a value is inside more than {MAX_DEPTH} others"));
        }
        let value = self.any_value();
        self.depth -= 1;
        value
    }

    fn any_value(&mut self) -> Result<Value, String> {
        match self.rest().chars().next() {
            Some('&') => self.pointer(),
            Some('{') => {
                self.at += 1;
                self.values("}").map(Value::Parts)
            }
            Some('[') => {
                self.at += 1;
                self.values("]").map(Value::Parts)
            }
            Some(quote @ ('\'' | '"')) => self.data(quote),
            // A member of a union: `@name=value`, or `@name`.
            Some('@') => {
                self.at += 1;
                if self.word().is_empty() {
                    return Err("expected the name of a member of a union".into());
                }
                if self.take("=") { self.value() } else { Ok(Value::Auto) }
            }
            // A resource that the kernel writes: `<r1=>0x0`.
            Some('<') => {
                self.at += 1;
                self.word();
                self.expect("=>")?;
                self.value()
            }
            Some(c) if c.is_ascii_digit() => self.number().map(Value::Number),
            Some(c) if is_word(c) => self.named(),
            _ => Err("expected a value, such as `0x1000` or `&(0x7f0000000000/0x1000)=nil`".into()),
        }
    }

    /// Takes a word that is no number: a resource, `nil`, `AUTO`, or names of flags.
    fn named(&mut self) -> Result<Value, String> {
        let from = self.at;
        let word = self.word();
        if let Some(number) = word.strip_prefix('r').and_then(|digits| digits.parse().ok()) {
            // `r0/4+1`: a number is made from the value of the resource.
            for operator in ["/", "+"] {
                if self.take(operator) {
                    self.number()?;
                }
            }
            return Ok(Value::Resource(number));
        }
        Ok(match word {
            "nil" => Value::Nil,
            "AUTO" => Value::Auto,
            // `&(0x7f0000000000)=ANY=[…]`: the parts have no types.
            "ANY" if self.take("=") => return self.value(),
            _ => {
                while self.take("|") {
                    self.word();
                }
                Value::Names(self.line[from..self.at].to_owned())
            }
        })
    }

    /// Takes a pointer: `&AUTO`, `&(ADDRESS)`, `&(ADDRESS/LENGTH)`, and perhaps `=VALUE`. Old programs
    /// write an address as a page and a distance: `&(0x7f0000001000-0x8)`.
    fn pointer(&mut self) -> Result<Value, String> {
        self.expect("&")?;
        let address = match self.take("AUTO") {
            true => None,
            false => {
                self.expect("(")?;
                let page = self.number()?;
                let address = match (self.take("+"), self.take("-")) {
                    (true, _) => page.checked_add(self.number()?),
                    (_, true) => page.checked_sub(self.number()?),
                    _ => Some(page),
                };
                let address = address.ok_or("expected an address of 64 bits")?;
                if self.take("/") {
                    self.number()?;
                }
                self.expect(")")?;
                Some(address)
            }
        };
        let value = if self.take("=") { Some(Box::new(self.value()?)) } else { None };
        Ok(Value::Pointer { address, value })
    }

    /// Takes data in quotes, and perhaps its length: `"0102"`, `'file\x00'`, `""/16`.
    fn data(&mut self, quote: char) -> Result<Value, String> {
        let from = self.at + 1;
        let bytes = self.line.as_bytes();
        let mut end = from;
        while *bytes
            .get(end)
            .ok_or_else(|| format!("expected {quote} before the end of the line"))?
            != quote as u8
        {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        let data = self.line.get(from..end).unwrap_or_default().to_owned();
        self.at = end + 1;
        if self.take("/") {
            self.number()?;
        }
        Ok(Value::Data(data))
    }
}
