//! The clauses of one rule: `to`, `from`, and each of `when`.

use crate::finding::{Note, Severity};
use ipnet::IpNet;
use std::net::IpAddr;
use weft_api::security::{Condition, Operation, Rule, Source};
use weft_model::{
    address::canonical_block,
    policy::{Clause, Match, ServiceAccountMatch, StringMatch},
};

/// The clauses of `rule`, and the names of the HTTP attributes that it uses.
pub(super) fn clauses(
    rule: &Rule,
    namespace: &str,
    path: &str,
    notes: &mut Vec<Note>,
) -> (Vec<Clause>, Vec<String>) {
    let mut reader = Reader { namespace, notes, http: Vec::new() };
    let mut clauses = Vec::new();
    let to = rule.to.iter().enumerate();
    let to: Vec<_> =
        to.map(|(at, t)| reader.operation(&t.operation, &format!("{path}.to[{at}].operation"))).collect();
    let from = rule.from.iter().enumerate();
    let from: Vec<_> =
        from.map(|(at, f)| reader.source(&f.source, &format!("{path}.from[{at}].source"))).collect();
    for matches in [to, from] {
        if !matches.is_empty() {
            clauses.push(Clause { matches });
        }
    }
    for (at, condition) in rule.when.iter().enumerate() {
        if let Some(matched) = reader.condition(condition, &format!("{path}.when[{at}]")) {
            clauses.push(Clause { matches: vec![matched] });
        }
    }
    (clauses, reader.http)
}

struct Reader<'a> {
    namespace: &'a str,
    notes: &'a mut Vec<Note>,
    http: Vec<String>,
}

impl Reader<'_> {
    fn needs_http<'a>(&mut self, attributes: impl IntoIterator<Item = (&'a str, &'a Vec<String>)>) {
        for (name, values) in attributes {
            if !values.is_empty() && !self.http.iter().any(|h| h == name) {
                self.http.push(name.to_owned());
            }
        }
    }

    fn operation(&mut self, op: &Operation, path: &str) -> Match {
        self.needs_http([
            ("hosts", &op.hosts),
            ("notHosts", &op.not_hosts),
            ("methods", &op.methods),
            ("notMethods", &op.not_methods),
            ("paths", &op.paths),
            ("notPaths", &op.not_paths),
        ]);
        Match {
            destination_ports: self.ports(&op.ports, path, "ports"),
            not_destination_ports: self.ports(&op.not_ports, path, "notPorts"),
            ..Match::default()
        }
    }

    fn source(&mut self, source: &Source, path: &str) -> Match {
        // The address behind a proxy is only known from HTTP headers, so Istio counts it among the HTTP attributes.
        self.needs_http([
            ("remoteIpBlocks", &source.remote_ip_blocks),
            ("notRemoteIpBlocks", &source.not_remote_ip_blocks),
            ("requestPrincipals", &source.request_principals),
            ("notRequestPrincipals", &source.not_request_principals),
        ]);
        Match {
            principals: strings(&source.principals),
            not_principals: strings(&source.not_principals),
            namespaces: strings(&source.namespaces),
            not_namespaces: strings(&source.not_namespaces),
            service_accounts: self.accounts(&source.service_accounts, path, "serviceAccounts"),
            not_service_accounts: self.accounts(&source.not_service_accounts, path, "notServiceAccounts"),
            source_ips: self.networks(&source.ip_blocks, path, "ipBlocks"),
            not_source_ips: self.networks(&source.not_ip_blocks, path, "notIpBlocks"),
            ..Match::default()
        }
    }

    /// `None` for an HTTP attribute.
    fn condition(&mut self, when: &Condition, path: &str) -> Option<Match> {
        if when.values.is_empty() && when.not_values.is_empty() {
            self.error(
                format!("{path}.values"),
                "the condition compares with nothing",
                "give values or notValues",
            );
        }
        let mut m = Match::default();
        match when.key.as_str() {
            "source.namespace" => {
                m.namespaces = strings(&when.values);
                m.not_namespaces = strings(&when.not_values);
            }
            "source.principal" => {
                m.principals = strings(&when.values);
                m.not_principals = strings(&when.not_values);
            }
            "source.ip" => {
                m.source_ips = self.networks(&when.values, path, "values");
                m.not_source_ips = self.networks(&when.not_values, path, "notValues");
            }
            "destination.ip" => {
                m.destination_ips = self.networks(&when.values, path, "values");
                m.not_destination_ips = self.networks(&when.not_values, path, "notValues");
            }
            "destination.port" => {
                m.destination_ports = self.ports(&when.values, path, "values");
                m.not_destination_ports = self.ports(&when.not_values, path, "notValues");
            }
            other => {
                self.http.push(other.to_owned());
                return None;
            }
        }
        Some(m)
    }

    fn ports(&mut self, values: &[String], path: &str, field: &str) -> Vec<u16> {
        let parse = |v: &String| v.parse::<u16>().ok();
        self.each(values, path, field, parse, "is not a port", "write a number from 1 to 65535, quoted")
    }

    fn networks(&mut self, values: &[String], path: &str, field: &str) -> Vec<IpNet> {
        let parse = |v: &String| {
            let block = v.parse::<IpNet>().ok().or_else(|| v.parse::<IpAddr>().ok().map(IpNet::from));
            block.and_then(canonical_block)
        };
        self.each(
            values,
            path,
            field,
            parse,
            "is not an IP block",
            "write an address or a block like 10.0.0.0/8",
        )
    }

    fn accounts(&mut self, values: &[String], path: &str, field: &str) -> Vec<ServiceAccountMatch> {
        let own = self.namespace.to_owned();
        let parse = |v: &String| {
            let (namespace, account) = v.split_once('/').unwrap_or((&own, v));
            (!namespace.is_empty() && !account.is_empty() && !account.contains(['/', '*']))
                .then(|| ServiceAccountMatch { namespace: namespace.into(), service_account: account.into() })
        };
        self.each(
            values,
            path,
            field,
            parse,
            "is not a service account",
            "write <namespace>/<name> or <name>",
        )
    }

    /// Every value must be good: an entry that is silently dropped may leave an empty list, which holds for everything.
    fn each<T>(
        &mut self,
        values: &[String],
        path: &str,
        field: &str,
        parse: impl Fn(&String) -> Option<T>,
        wrong: &str,
        mend: &str,
    ) -> Vec<T> {
        let mut out = Vec::with_capacity(values.len());
        for (at, value) in values.iter().enumerate() {
            match parse(value) {
                Some(v) => out.push(v),
                None => self.error(format!("{path}.{field}[{at}]"), format!("`{value}` {wrong}"), mend),
            }
        }
        out
    }

    fn error(&mut self, field: String, message: impl Into<String>, mend: &str) {
        self.notes.push(Note::new(Severity::Error, field, message, mend));
    }
}

fn strings(values: &[String]) -> Vec<StringMatch> {
    values
        .iter()
        .map(|v| match (v.as_str(), v.strip_prefix('*'), v.strip_suffix('*')) {
            ("*", ..) => StringMatch::Presence,
            (_, Some(suffix), _) => StringMatch::Suffix(suffix.into()),
            (_, None, Some(prefix)) => StringMatch::Prefix(prefix.into()),
            (exact, None, None) => StringMatch::Exact(exact.into()),
        })
        .collect()
}
