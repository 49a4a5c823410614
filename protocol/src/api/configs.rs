//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs and ListConfigResources: the settings of
//! topics, brokers and groups.
//!
//! Resource types: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group. Pure.

use crate::wire;

wire! {
    /// Asks for settings. KIP-133.
    pub struct DescribeConfigsRequest {
        /// The resources.
        resources: Vec<DescribeConfigsResource>;
        /// Whether to say where each value could come from.
        include_synonyms: bool;
        /// Whether to say what each setting is for.
        include_documentation: bool, in 3..;
    }

    /// A topic, broker or group to ask about.
    pub struct DescribeConfigsResource {
        /// The resource's type.
        resource_type: i8;
        /// The resource's name.
        resource_name: String;
        /// The settings to answer with. `None`: all.
        configuration_keys: Option<Vec<String>> = Some(Vec::new());
    }

    /// The settings.
    pub struct DescribeConfigsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// The settings of each resource.
        results: Vec<DescribeConfigsResult>;
    }

    /// The settings of one resource.
    pub struct DescribeConfigsResult {
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new());
        /// The resource's type.
        resource_type: i8;
        /// The resource's name.
        resource_name: String;
        /// The settings.
        configs: Vec<DescribeConfigsResourceResult>;
    }

    /// A setting. v3: its type and meaning (KIP-569).
    pub struct DescribeConfigsResourceResult {
        /// The setting.
        name: String;
        /// The value. `None`: none, or a secret.
        value: Option<String> = Some(String::new());
        /// Whether the setting cannot be changed.
        read_only: bool;
        /// Where the value comes from: 1 topic, 2 broker, 3 all brokers, 4 file, 5 default, 6
        /// logger, 7 client metrics, 8 group. -1: unknown.
        config_source: i8 = -1;
        /// Whether the value is a secret, and left out.
        is_sensitive: bool;
        /// Where the value could come from, strongest first.
        synonyms: Vec<DescribeConfigsSynonym>;
        /// The type of the value: 1 boolean, 2 string, 3 int, 4 short, 5 long, 6 double, 7 list, 8
        /// class, 9 password. 0: unknown.
        config_type: i8, in 3.., ignorable;
        /// What the setting is for.
        documentation: Option<String> = Some(String::new()), in 3.., ignorable;
    }

    /// A place from which the setting could come.
    pub struct DescribeConfigsSynonym {
        /// The setting there.
        name: String;
        /// The value. `None`: none, or a secret.
        value: Option<String> = Some(String::new());
        /// Where that is; see `config_source`.
        source: i8;
    }

    /// Changes some settings and leaves the others alone. KIP-339.
    pub struct IncrementalAlterConfigsRequest {
        /// The resources.
        resources: Vec<AlterConfigsResource>;
        /// Whether to check without doing.
        validate_only: bool;
    }

    /// Changes to one resource.
    pub struct AlterConfigsResource {
        /// The resource's type.
        resource_type: i8;
        /// The resource's name.
        resource_name: String;
        /// The changes.
        configs: Vec<AlterableConfig>;
    }

    /// A change to one setting.
    pub struct AlterableConfig {
        /// The setting.
        name: String;
        /// 0 set, 1 delete, 2 append to the list, 3 subtract from it.
        config_operation: i8;
        /// The new value. `None`: to delete.
        value: Option<String> = Some(String::new());
    }

    /// Which resources were changed.
    pub struct IncrementalAlterConfigsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// What became of each resource.
        responses: Vec<AlterConfigsResourceResponse>;
    }

    /// Whether one resource was changed.
    pub struct AlterConfigsResourceResponse {
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new());
        /// The resource's type.
        resource_type: i8;
        /// The resource's name.
        resource_name: String;
    }

    /// Replaces all settings of each resource: what is not named returns to its default. KIP-133.
    pub struct AlterConfigsRequest {
        /// The resources.
        resources: Vec<ReplacedConfigsResource>;
        /// Whether to check without doing.
        validate_only: bool;
    }

    /// The settings that a resource is to have, and no others.
    pub struct ReplacedConfigsResource {
        /// The resource's type.
        resource_type: i8;
        /// The resource's name.
        resource_name: String;
        /// The settings.
        configs: Vec<ReplacedConfig>;
    }

    /// A setting that a resource is to have.
    pub struct ReplacedConfig {
        /// The setting.
        name: String;
        /// The value. `None`: not a value; refused.
        value: Option<String> = Some(String::new());
    }

    /// Which resources were changed.
    pub struct AlterConfigsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// What became of each resource.
        responses: Vec<AlterConfigsResourceResponse>;
    }

    /// Asks which resources there are settings of. KIP-1142; version 0 asks for subscriptions to
    /// client metrics alone, as KIP-714 had it.
    pub struct ListConfigResourcesRequest {
        /// The types to list. Empty: all.
        resource_types: Vec<i8>, in 1..;
    }

    /// The resources that can have settings.
    pub struct ListConfigResourcesResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The resources.
        config_resources: Vec<ConfigResource>;
    }

    /// A resource that can have settings.
    pub struct ConfigResource {
        /// The resource's name.
        resource_name: String;
        /// The resource's type.
        resource_type: i8 = 16, in 1.., ignorable;
    }
}
