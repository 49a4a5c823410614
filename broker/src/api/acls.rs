//! DescribeAcls, CreateAcls and DeleteAcls: entries of access control lists from and to the wire.
//!
//! Without an authorizer they are refused, as nobody would heed them. KIP-11, KIP-290. Shell.

use protocol::api::acls::{
    AclCreation, AclCreationResult, AclDescription, AclFilter as WireFilter, CreateAclsRequest,
    CreateAclsResponse, DeleteAclsFilterResult, DeleteAclsMatchingAcl, DeleteAclsRequest,
    DeleteAclsResponse, DescribeAclsRequest, DescribeAclsResource, DescribeAclsResponse,
};
use protocol::error_code::ErrorCode;

use super::parts::{Refusal, answers};
use crate::controller::{AclError, ControllerHandle};
use crate::metadata::{
    Acl, AclFilter, AclOperation, Image, PatternFilter, PatternType, Permission, ResourceType,
};

/// A number of the wire that stands for all.
const ANY: i8 = 1;
/// Of patterns: all that a name falls under.
const MATCH: i8 = 2;

fn disabled() -> Refusal {
    let message = "no authorizer is configured: set authorizer.class.name";
    (ErrorCode::SecurityDisabled, message.to_owned())
}

/// Describes the entries that fit, by resource.
pub(crate) fn describe(
    image: &Image,
    is_enabled: bool,
    request: DescribeAclsRequest,
) -> DescribeAclsResponse {
    let DescribeAclsRequest {
        resource_type,
        resource_name,
        pattern_type,
        principal,
        host,
        operation,
        permission_type,
    } = request;
    let filter = WireFilter {
        resource_type,
        resource_name,
        pattern_type,
        principal,
        host,
        operation,
        permission_type,
    };
    let filter = if is_enabled { parse_filter(filter) } else { Err(disabled()) };
    let filter = match filter {
        Ok(filter) => filter,
        Err((code, message)) => {
            return DescribeAclsResponse {
                error_code: code.to_wire(),
                error_message: Some(message),
                ..DescribeAclsResponse::default()
            };
        }
    };
    let mut resources: Vec<DescribeAclsResource> = Vec::new();
    for (acl, _) in image.acls().iter().filter(|(acl, _)| filter.fits(acl)) {
        let (kind, pattern) = (acl.resource.to_wire(), acl.pattern.to_wire());
        let is_same = |last: &&mut DescribeAclsResource| {
            (last.resource_type, last.pattern_type) == (kind, pattern)
                && *last.resource_name == *acl.name
        };
        let description = AclDescription {
            principal: acl.principal.to_string(),
            host: acl.host.to_string(),
            operation: acl.operation.to_wire(),
            permission_type: acl.permission.to_wire(),
        };
        match resources.last_mut().filter(is_same) {
            Some(last) => last.acls.push(description),
            None => resources.push(DescribeAclsResource {
                resource_type: kind,
                resource_name: acl.name.to_string(),
                pattern_type: pattern,
                acls: vec![description],
            }),
        }
    }
    // Of success Kafka says nothing by an empty text here, and by null where entries are deleted.
    let error_message = Some(String::new());
    DescribeAclsResponse { error_message, resources, ..DescribeAclsResponse::default() }
}

/// Creates entries; each has its own answer.
pub(crate) async fn create(
    controller: &ControllerHandle,
    is_enabled: bool,
    request: CreateAclsRequest,
) -> CreateAclsResponse {
    let parse = |creation| if is_enabled { parse_acl(creation) } else { Err(disabled()) };
    let parsed = request.creations.into_iter().map(parse);
    let created = answers(parsed, |acls| controller.create_acls(acls)).await;
    let result = |created: Result<Result<(), AclError>, Refusal>| {
        let told = created.and_then(|it| it.map_err(|error| (error.code(), error.to_string())));
        let (code, message) = told.err().unwrap_or_default();
        AclCreationResult { error_code: code.to_wire(), error_message: Some(message) }
    };
    let results = created.into_iter().map(result).collect();
    CreateAclsResponse { results, throttle_time_ms: 0 }
}

/// Deletes the entries that fit; each filter has its own answer.
pub(crate) async fn delete(
    controller: &ControllerHandle,
    is_enabled: bool,
    request: DeleteAclsRequest,
) -> DeleteAclsResponse {
    let parse = |filter| if is_enabled { parse_filter(filter) } else { Err(disabled()) };
    let parsed = request.filters.into_iter().map(parse);
    let deleted = answers(parsed, |filters| controller.delete_acls(filters)).await;
    let result = |deleted: Result<Vec<Acl>, Refusal>| match deleted {
        Ok(acls) => DeleteAclsFilterResult {
            error_code: 0,
            error_message: None,
            matching_acls: acls.iter().map(deleted_acl).collect(),
        },
        Err((code, message)) => DeleteAclsFilterResult {
            error_code: code.to_wire(),
            error_message: Some(message),
            matching_acls: Vec::new(),
        },
    };
    let filter_results = deleted.into_iter().map(result).collect();
    DeleteAclsResponse { filter_results, throttle_time_ms: 0 }
}

fn deleted_acl(acl: &Acl) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl {
        error_code: 0,
        error_message: None,
        resource_type: acl.resource.to_wire(),
        resource_name: acl.name.to_string(),
        pattern_type: acl.pattern.to_wire(),
        principal: acl.principal.to_string(),
        host: acl.host.to_string(),
        operation: acl.operation.to_wire(),
        permission_type: acl.permission.to_wire(),
    }
}

fn unknown(what: &str, number: i8) -> Refusal {
    (ErrorCode::InvalidRequest, format!("{number} is no {what} here"))
}

fn parse_acl(creation: AclCreation) -> Result<Acl, Refusal> {
    let AclCreation { resource_type, resource_pattern_type, operation, permission_type, .. } =
        creation;
    let resource = ResourceType::from_wire(resource_type);
    let pattern = PatternType::from_wire(resource_pattern_type);
    let permission = Permission::from_wire(permission_type);
    Ok(Acl {
        resource: resource.ok_or_else(|| unknown("type of resource", resource_type))?,
        pattern: pattern.ok_or_else(|| unknown("type of pattern", resource_pattern_type))?,
        name: creation.resource_name.into(),
        principal: creation.principal.into(),
        host: creation.host.into(),
        operation: AclOperation::from_wire(operation)
            .ok_or_else(|| unknown("operation", operation))?,
        permission: permission.ok_or_else(|| unknown("permission", permission_type))?,
    })
}

fn parse_filter(filter: WireFilter) -> Result<AclFilter, Refusal> {
    /// The one of this number; `None` for all.
    fn one<T>(number: i8, found: Option<T>, what: &str) -> Result<Option<T>, Refusal> {
        if number == ANY || found.is_some() { Ok(found) } else { Err(unknown(what, number)) }
    }
    let WireFilter { resource_type, pattern_type, operation, permission_type, .. } = filter;
    let pattern = match (pattern_type, PatternType::from_wire(pattern_type)) {
        (_, Some(pattern)) => PatternFilter::Is(pattern),
        (ANY, None) => PatternFilter::Any,
        (MATCH, None) => PatternFilter::Match,
        (other, None) => return Err(unknown("type of pattern", other)),
    };
    let resource = ResourceType::from_wire(resource_type);
    let permission = Permission::from_wire(permission_type);
    Ok(AclFilter {
        resource: one(resource_type, resource, "type of resource")?,
        pattern,
        name: filter.resource_name.map(Into::into),
        principal: filter.principal.map(Into::into),
        host: filter.host.map(Into::into),
        operation: one(operation, AclOperation::from_wire(operation), "operation")?,
        permission: one(permission_type, permission, "permission")?,
    })
}
