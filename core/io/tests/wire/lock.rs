//! The lock's form: a block for each message, enumeration and service, a line for each of its members.

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use std::{collections::BTreeMap, fmt};

const HEAD: &str = "\
# What agents and control of two releases say to each other, as core/io/tests/wire.rs compares it. Lines are added by
# `WEFT_WIRE_LOCK=add cargo test -p weft-io --test wire`; none is changed.
";
/// What stands for a number that must not be used again.
const RESERVED: &str = "reserved";

/// Blocks by kind and name, and in each the members by number or name.
#[derive(Default, PartialEq, Eq)]
pub struct Lock {
    blocks: BTreeMap<String, BTreeMap<Member, String>>,
}

/// The number of a field or a value, or the name of a method.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Member {
    Number(i32),
    Name(String),
}

impl Lock {
    /// Takes in what was compiled; what it imports from elsewhere is not ours to lock.
    pub fn add(&mut self, set: &FileDescriptorSet) {
        for file in set.file.iter().filter(|file| !file.package().starts_with("google.")) {
            let package = file.package();
            file.message_type.iter().for_each(|m| self.message(package, m));
            file.enum_type.iter().for_each(|e| self.enumeration(package, e));
            for service in &file.service {
                let end = |streams: bool, name: &str| {
                    format!("{}{}", if streams { "stream " } else { "" }, name.trim_start_matches('.'))
                };
                let methods = service.method.iter().map(|m| {
                    let from = end(m.client_streaming(), m.input_type());
                    let to = end(m.server_streaming(), m.output_type());
                    (Member::Name(m.name().to_owned()), format!("{from} -> {to}"))
                });
                self.blocks.insert(format!("service {package}.{}", service.name()), methods.collect());
            }
        }
    }

    fn message(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        let mut members: BTreeMap<_, _> =
            message.field.iter().map(|f| (Member::Number(f.number()), field(message, f))).collect();
        // The end of a message's range is not in it.
        for range in &message.reserved_range {
            members.extend((range.start()..range.end()).map(|n| (Member::Number(n), RESERVED.to_owned())));
        }
        message.nested_type.iter().for_each(|m| self.message(&name, m));
        message.enum_type.iter().for_each(|e| self.enumeration(&name, e));
        self.blocks.insert(format!("message {name}"), members);
    }

    fn enumeration(&mut self, scope: &str, enumeration: &EnumDescriptorProto) {
        let values = enumeration.value.iter().map(|v| (Member::Number(v.number()), v.name().to_owned()));
        let mut members: BTreeMap<_, _> = values.collect();
        // That of an enumeration is.
        for range in &enumeration.reserved_range {
            members.extend((range.start()..=range.end()).map(|n| (Member::Number(n), RESERVED.to_owned())));
        }
        self.blocks.insert(format!("enum {scope}.{}", enumeration.name()), members);
    }

    /// Reads what was written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lock = Self::default();
        let mut block = None;
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.strip_prefix("  ") {
                None => block = Some(lock.blocks.entry(line.to_owned()).or_default()),
                Some(member) => {
                    let (name, what) = member.split_once(' ').ok_or_else(|| line.to_owned())?;
                    let name = name.parse().map_or_else(|_| Member::Name(name.to_owned()), Member::Number);
                    block.as_mut().ok_or_else(|| line.to_owned())?.insert(name, what.to_owned());
                }
            }
        }
        Ok(lock)
    }

    /// What of this another release would misread, were the wire as `now` says.
    pub fn broken_by(&self, now: &Self) -> Vec<String> {
        let mut broken = Vec::new();
        for (name, members) in &self.blocks {
            let Some(found) = now.blocks.get(name) else {
                broken.push(format!("{name} is gone"));
                continue;
            };
            for (member, was) in members {
                match found.get(member) {
                    Some(is) if is == was || is == RESERVED => {}
                    Some(is) => broken.push(format!("{name} {member} was `{was}` and is `{is}`")),
                    None => broken.push(format!("{name} {member} was `{was}` and is gone")),
                }
            }
        }
        broken
    }
}

/// What a field is: name, label, type, and the `oneof` that it is in.
fn field(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let label = match field.label() {
        Label::Repeated => "repeated ",
        _ if field.proto3_optional() => "optional ",
        _ => "",
    };
    let kind = match field.r#type() {
        Type::Message | Type::Enum => field.type_name().trim_start_matches('.').to_owned(),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    let choice = field.oneof_index.filter(|_| !field.proto3_optional());
    let choice = choice.and_then(|at| message.oneof_decl.get(usize::try_from(at).ok()?));
    let choice = choice.map(|o| format!(" of {}", o.name())).unwrap_or_default();
    format!("{} {label}{kind}{choice}", field.name())
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        for (name, members) in &self.blocks {
            writeln!(f, "\n{name}")?;
            for (member, what) in members {
                writeln!(f, "  {member} {what}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Member::Number(number) => number.fmt(f),
            Member::Name(name) => name.fmt(f),
        }
    }
}
