// Records what the Kubernetes API server says about objects of our CRD, with the API server's own packages.
//
//	go mod tidy && go run . ../../../../crds/rocketmqclusters.rocketmqkube.dev.yaml ../golden/refusals.json
//
// It refuses to record when the CRD itself is invalid (schema, CEL that does not compile, CEL that may cost too much).
// The second file is a list of {object, old?, messages}; messages are replaced.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

type recorded struct {
	Object   json.RawMessage `json:"object"`
	Old      json.RawMessage `json:"old,omitempty"`
	Messages []string        `json:"messages"`
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// object decodes as the API server does: whole numbers stay int64.
func object(raw json.RawMessage, structural *schema.Structural) map[string]interface{} {
	if raw == nil {
		return nil
	}
	var value interface{}
	must(utiljson.Unmarshal(raw, &value))
	result := value.(map[string]interface{})
	defaulting.PruneNonNullableNullsWithoutDefaults(result, structural)
	defaulting.Default(result, structural)
	return result
}

// blocking tells whether the API server leaves the CEL rules unchecked (hasBlockingErr of its request strategy).
func blocking(errs field.ErrorList) bool {
	for _, e := range errs {
		switch e.Type {
		case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany,
			field.ErrorTypeTypeInvalid:
			return true
		}
	}
	return false
}

func main() {
	text, err := os.ReadFile(os.Args[1])
	must(err)
	var crd apiv1.CustomResourceDefinition
	must(yaml.UnmarshalStrict(text, &crd))
	apiv1.SetDefaults_CustomResourceDefinition(&crd)
	apiv1.SetDefaults_CustomResourceDefinitionSpec(&crd.Spec)
	scheme := runtime.NewScheme()
	must(apiextensions.AddToScheme(scheme))
	must(apiv1.AddToScheme(scheme))
	var internal apiextensions.CustomResourceDefinition
	must(scheme.Convert(&crd, &internal, nil))
	internal.Status.StoredVersions = []string{crd.Spec.Versions[0].Name}
	if errs := crdvalidation.ValidateCustomResourceDefinition(context.TODO(), &internal); len(errs) > 0 {
		must(errs.ToAggregate())
	}

	var props apiextensions.JSONSchemaProps
	must(apiv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(
		crd.Spec.Versions[0].Schema.OpenAPIV3Schema, &props, nil))
	structural, err := schema.NewStructural(&props)
	must(err)
	validator, _, err := validation.NewSchemaValidator(&props)
	must(err)
	rules := cel.NewValidator(structural, true, celconfig.PerCallLimit)

	cases, err := os.ReadFile(os.Args[2])
	must(err)
	var all []recorded
	must(json.Unmarshal(cases, &all))
	for i := range all {
		value, old := object(all[i].Object, structural), object(all[i].Old, structural)
		errs := validation.ValidateCustomResource(nil, value, validator)
		if blocking(errs) {
			errs = append(errs, field.Invalid(nil, nil, "some validation rules were not checked because the object was "+
				"invalid; correct the existing errors to complete validation"))
		} else {
			var before interface{}
			if old != nil {
				before = old
			}
			broken, _ := rules.Validate(context.TODO(), nil, structural, value, before, celconfig.RuntimeCELCostBudget)
			errs = append(errs, broken...)
		}
		all[i].Messages = []string{}
		for _, e := range errs {
			all[i].Messages = append(all[i].Messages, e.Error())
		}
	}
	result, err := json.MarshalIndent(all, "", " ")
	must(err)
	must(os.WriteFile(os.Args[2], append(result, '\n'), 0o644))
}
