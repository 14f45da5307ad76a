//! The role file of the products, `ha.conf`: which role, with whom.

use serde::{Deserialize, Serialize};

use crate::role::{RoleConfig, RoleError};

/// What the products write, and read as well: these two keys, in this order. A key it does not know is refused rather than lost.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HaConf {
    node_type: String,
    remote_address: String,
}

/// What to do with a file that says something else.
const RIGHT: &str = "right is {\"node_type\": \"master\", \"remote_address\": \"the slave's address\"}, or slave with the \
    master's address, or disabled with \"\"; correct it, or remove it and run `configure`";

/// The role that the text of the file at `path` names. `None` (no file, as on every new machine) is `disabled`.
///
/// # Errors
///
/// Name the file, what is wrong in it and what would be right.
pub fn parse(path: &'static str, text: Option<&str>) -> Result<RoleConfig, RoleError> {
    let Some(text) = text else { return Ok(RoleConfig::Disabled) };
    let conf: HaConf = serde_json::from_str(text)
        .map_err(|err| RoleError::BadFile { file: path, why: format!("{err}; {RIGHT}") })?;
    RoleConfig::new(conf.node_type.parse()?, &conf.remote_address)
}

/// The file's text: a plain JSON dump without a line end.
pub fn render(role: &RoleConfig) -> String {
    // serde_json's own form has no space after the separators; the product's has one
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    format!(
        "{{\"node_type\": {}, \"remote_address\": {}}}",
        quoted(role.role().word()),
        quoted(&role.remote_address())
    )
}

#[cfg(test)]
mod tests {
    use crate::role::Role;

    use super::*;

    fn parse(text: Option<&str>) -> Result<RoleConfig, RoleError> {
        super::parse("/etc/xivo/ha.conf", text)
    }

    #[test]
    fn what_is_written_is_read_back() {
        for role in [
            RoleConfig::Disabled,
            RoleConfig::new(Role::Master, "10.77.0.12").unwrap(),
            RoleConfig::new(Role::Slave, "2001:db8::11").unwrap(),
        ] {
            assert_eq!(parse(Some(&render(&role))), Ok(role));
        }
    }

    #[test]
    fn the_text_is_the_products_own() {
        let master = RoleConfig::new(Role::Master, "10.77.0.12").unwrap();
        assert_eq!(render(&master), r#"{"node_type": "master", "remote_address": "10.77.0.12"}"#);
        assert_eq!(render(&RoleConfig::Disabled), r#"{"node_type": "disabled", "remote_address": ""}"#);
    }

    #[test]
    fn a_machine_without_the_file_is_disabled() {
        assert_eq!(parse(None), Ok(RoleConfig::Disabled));
    }

    #[test]
    fn a_disabled_node_needs_no_address_but_the_key() {
        let left_over = r#"{"remote_address":"10.77.0.12","node_type":"disabled"}"#;
        assert_eq!(parse(Some(left_over)), Ok(RoleConfig::Disabled));
    }

    #[test]
    fn a_file_that_the_product_would_not_write_is_refused_with_what_would_be_right() {
        for (text, says) in [
            ("", "EOF while parsing"),
            ("[]", "invalid length"),
            ("master", "expected value"),
            (r#"{"node_type": "master"}"#, "missing field `remote_address`"),
            (r#"{"remote_address": ""}"#, "missing field `node_type`"),
            (r#"{"node_type": null, "remote_address": ""}"#, "invalid type: null"),
            (r#"{"node_type": "disabled", "remote_address": "", "vip": ""}"#, "unknown field `vip`"),
            (r#"{"node_type": "disabled", "remote_address": ""} x"#, "trailing characters"),
        ] {
            let refusal = parse(Some(text)).unwrap_err().to_string();
            assert!(refusal.starts_with("/etc/xivo/ha.conf cannot be read as a role: "), "{text}: {refusal}");
            assert!(refusal.contains(says), "{text}: {refusal}");
            assert!(refusal.ends_with(RIGHT), "{refusal}");
        }
    }

    #[test]
    fn a_role_or_address_that_cannot_be_is_named() {
        let parse = |kind: &str, remote: &str| {
            parse(Some(&format!(r#"{{"node_type": "{kind}", "remote_address": "{remote}"}}"#))).unwrap_err()
        };
        assert_eq!(parse("standby", "10.77.0.12"), RoleError::UnknownRole("standby".to_owned()));
        assert_eq!(parse("slave", ""), RoleError::RemoteMissing(Role::Slave));
        assert_eq!(parse("master", "pbx2"), RoleError::NotAnAddress("pbx2".to_owned()));
    }
}
