//! DescribeAcls, CreateAcls and DeleteAcls: who may do what with which resource.
//!
//! Numbers stand for types of resources, of patterns, of operations and of permissions, as Kafka's
//! Java enumerations have them: 0 is unknown, 1 is any. KIP-11, KIP-290. Pure.

use crate::wire;

wire! {
    /// Asks for the ACLs that fit. v1: types of patterns (KIP-290), v3: users as resources (KIP-373).
    pub struct DescribeAclsRequest {
        /// The type of resource.
        resource_type: i8;
        /// The resource's name. `None`: any.
        resource_name: Option<String> = Some(String::new());
        /// How the name of the ACL's resource is to be taken. 3: as it is.
        pattern_type: i8 = 3;
        /// Whom they are for. `None`: anyone.
        principal: Option<String> = Some(String::new());
        /// Which hosts they are for. `None`: any.
        host: Option<String> = Some(String::new());
        /// What may be done.
        operation: i8;
        /// Whether it is allowed or denied.
        permission_type: i8;
    }

    /// What ACLs must be like.
    pub struct AclFilter {
        /// The type of resource.
        resource_type: i8;
        /// The resource's name. `None`: any.
        resource_name: Option<String> = Some(String::new());
        /// How the name of the ACL's resource is to be taken. 3: as it is.
        pattern_type: i8 = 3;
        /// Whom they are for. `None`: anyone.
        principal: Option<String> = Some(String::new());
        /// Which hosts they are for. `None`: any.
        host: Option<String> = Some(String::new());
        /// What may be done.
        operation: i8;
        /// Whether it is allowed or denied.
        permission_type: i8;
    }

    /// The ACLs, by resource.
    pub struct DescribeAclsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new());
        /// The resources.
        resources: Vec<DescribeAclsResource>;
    }

    /// The ACLs of one resource.
    pub struct DescribeAclsResource {
        /// The type of resource.
        resource_type: i8;
        /// Its name.
        resource_name: String;
        /// How the name is to be taken. 3: as it is; 4: as a prefix.
        pattern_type: i8 = 3;
        /// Who may do what with it.
        acls: Vec<AclDescription>;
    }

    /// Who may, or may not, do what.
    pub struct AclDescription {
        /// Whom it is for.
        principal: String;
        /// From which host. `*`: any.
        host: String;
        /// What may be done.
        operation: i8;
        /// Whether it is allowed or denied.
        permission_type: i8;
    }

    /// Creates ACLs. v1: types of patterns (KIP-290), v3: users as resources (KIP-373).
    pub struct CreateAclsRequest {
        /// The new ACLs.
        creations: Vec<AclCreation>;
    }

    /// A new ACL.
    pub struct AclCreation {
        /// The type of resource.
        resource_type: i8;
        /// Its name.
        resource_name: String;
        /// How the name is to be taken. 3: as it is; 4: as a prefix.
        resource_pattern_type: i8 = 3;
        /// Whom it is for.
        principal: String;
        /// From which host. `*`: any.
        host: String;
        /// What may be done.
        operation: i8;
        /// Whether it is allowed or denied.
        permission_type: i8;
    }

    /// Which ACLs were created.
    pub struct CreateAclsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// What became of each, in the request's order.
        results: Vec<AclCreationResult>;
    }

    /// Whether one ACL was created.
    pub struct AclCreationResult {
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new());
    }

    /// Deletes the ACLs that fit. v1: types of patterns (KIP-290), v3: users as resources (KIP-373).
    pub struct DeleteAclsRequest {
        /// What the ACLs must be like: any of these.
        filters: Vec<AclFilter>;
    }

    /// Which ACLs were deleted.
    pub struct DeleteAclsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// What fitted each filter, in the request's order.
        filter_results: Vec<DeleteAclsFilterResult>;
    }

    /// The ACLs that fitted one filter.
    pub struct DeleteAclsFilterResult {
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new());
        /// The ACLs.
        matching_acls: Vec<DeleteAclsMatchingAcl>;
    }

    /// An ACL that fitted.
    pub struct DeleteAclsMatchingAcl {
        /// An error code of the wire; 0: it is deleted.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new());
        /// The type of resource.
        resource_type: i8;
        /// Its name.
        resource_name: String;
        /// How the name is to be taken. 3: as it is; 4: as a prefix.
        pattern_type: i8 = 3;
        /// Whom it was for.
        principal: String;
        /// From which host. `*`: any.
        host: String;
        /// What may be done.
        operation: i8;
        /// Whether it was allowed or denied.
        permission_type: i8;
    }
}
