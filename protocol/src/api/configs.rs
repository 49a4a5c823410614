//! x. Pure.

use crate::wire;

wire! {
    /// DescribeConfigsRequest.
    pub struct DescribeConfigsRequest {
        /// Resources.
        resources: Vec<DescribeConfigsResource>;
        /// IncludeSynonyms.
        include_synonyms: bool;
        /// IncludeDocumentation.
        include_documentation: bool, in 3..;
    }

    /// DescribeConfigsResource.
    pub struct DescribeConfigsResource {
        /// ResourceType.
        resource_type: i8;
        /// ResourceName.
        resource_name: String;
        /// ConfigurationKeys.
        configuration_keys: Option<Vec<String>> = Some(Vec::new());
    }

    /// DescribeConfigsResponse.
    pub struct DescribeConfigsResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32;
        /// Results.
        results: Vec<DescribeConfigsResult>;
    }

    /// DescribeConfigsResult.
    pub struct DescribeConfigsResult {
        /// ErrorCode.
        error_code: i16;
        /// ErrorMessage.
        error_message: Option<String> = Some(String::new());
        /// ResourceType.
        resource_type: i8;
        /// ResourceName.
        resource_name: String;
        /// Configs.
        configs: Vec<DescribeConfigsResourceResult>;
    }

    /// DescribeConfigsResourceResult.
    pub struct DescribeConfigsResourceResult {
        /// Name.
        name: String;
        /// Value.
        value: Option<String> = Some(String::new());
        /// ReadOnly.
        read_only: bool;
        /// ConfigSource.
        config_source: i8 = -1;
        /// IsSensitive.
        is_sensitive: bool;
        /// Synonyms.
        synonyms: Vec<DescribeConfigsSynonym>;
        /// ConfigType.
        config_type: i8, in 3.., ignorable;
        /// Documentation.
        documentation: Option<String> = Some(String::new()), in 3.., ignorable;
    }

    /// DescribeConfigsSynonym.
    pub struct DescribeConfigsSynonym {
        /// Name.
        name: String;
        /// Value.
        value: Option<String> = Some(String::new());
        /// Source.
        source: i8;
    }

    /// IncrementalAlterConfigsRequest.
    pub struct IncrementalAlterConfigsRequest {
        /// Resources.
        resources: Vec<AlterConfigsResource>;
        /// ValidateOnly.
        validate_only: bool;
    }

    /// AlterConfigsResource.
    pub struct AlterConfigsResource {
        /// ResourceType.
        resource_type: i8;
        /// ResourceName.
        resource_name: String;
        /// Configs.
        configs: Vec<AlterableConfig>;
    }

    /// AlterableConfig.
    pub struct AlterableConfig {
        /// Name.
        name: String;
        /// ConfigOperation.
        config_operation: i8;
        /// Value.
        value: Option<String> = Some(String::new());
    }

    /// IncrementalAlterConfigsResponse.
    pub struct IncrementalAlterConfigsResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32;
        /// Responses.
        responses: Vec<AlterConfigsResourceResponse>;
    }

    /// AlterConfigsResourceResponse.
    pub struct AlterConfigsResourceResponse {
        /// ErrorCode.
        error_code: i16;
        /// ErrorMessage.
        error_message: Option<String> = Some(String::new());
        /// ResourceType.
        resource_type: i8;
        /// ResourceName.
        resource_name: String;
    }
}
