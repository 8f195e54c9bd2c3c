// The custom and external metrics of Kubernetes out of Prometheus, by the rules of prometheus-adapter's configuration,
// as far as the tests use them: https://github.com/kubernetes-sigs/prometheus-adapter/blob/master/docs/config.md
//
// It stands in for prometheus-adapter, which is no module that Go could install. The API itself is that of the same
// library.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/metrics/pkg/apis/custom_metrics"
	"k8s.io/metrics/pkg/apis/external_metrics"
	"sigs.k8s.io/custom-metrics-apiserver/pkg/cmd"
	"sigs.k8s.io/custom-metrics-apiserver/pkg/provider"
	"sigs.k8s.io/custom-metrics-apiserver/pkg/provider/defaults"
	"sigs.k8s.io/custom-metrics-apiserver/pkg/provider/helpers"
	"sigs.k8s.io/yaml"
)

type rule struct {
	SeriesQuery string
	Resources   struct {
		Overrides map[string]struct{ Group, Resource string }
	}
	Name         struct{ Matches, As string }
	MetricsQuery string

	name  *regexp.Regexp
	query *template.Template
}

type sample struct {
	labels map[string]string
	value  resource.Quantity
}

type prometheus struct {
	defaults.DefaultCustomMetricsProvider
	defaults.DefaultExternalMetricsProvider
	url             string
	client          dynamic.Interface
	mapper          apimeta.RESTMapper
	rules, external []rule
}

func (p *prometheus) GetMetricByName(ctx context.Context, name types.NamespacedName, info provider.CustomMetricInfo, _ labels.Selector) (*custom_metrics.MetricValue, error) {
	found, err := p.values(ctx, name.Namespace, []string{name.Name}, info)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, provider.NewMetricNotFoundForError(info.GroupResource, info.Metric, name.Name)
	}
	return &found[0], nil
}

func (p *prometheus) GetMetricBySelector(ctx context.Context, namespace string, selector labels.Selector, info provider.CustomMetricInfo, _ labels.Selector) (*custom_metrics.MetricValueList, error) {
	names, err := helpers.ListObjectNames(p.mapper, p.client, namespace, selector, info)
	if err != nil {
		return nil, err
	}
	found, err := p.values(ctx, namespace, names, info)
	return &custom_metrics.MetricValueList{Items: found}, err
}

func (p *prometheus) GetExternalMetric(ctx context.Context, namespace string, selector labels.Selector, info provider.ExternalMetricInfo) (*external_metrics.ExternalMetricValueList, error) {
	for _, rule := range p.external {
		series, err := p.series(ctx, rule, info.Metric)
		if err != nil {
			return nil, err
		}
		if series == "" {
			continue
		}
		values := map[string][]string{}
		for label, of := range rule.Resources.Overrides {
			if of.Resource == "namespace" {
				values[label] = []string{namespace}
			}
		}
		requirements, _ := selector.Requirements()
		for _, requirement := range requirements {
			values[requirement.Key()] = requirement.Values().UnsortedList()
		}
		samples, err := p.ask(ctx, rule, series, values, nil)
		if err != nil {
			return nil, err
		}
		list := &external_metrics.ExternalMetricValueList{}
		for _, sample := range samples {
			list.Items = append(list.Items, external_metrics.ExternalMetricValue{
				MetricName: info.Metric, MetricLabels: sample.labels, Timestamp: metav1.Now(), Value: sample.value,
			})
		}
		return list, nil
	}
	return nil, provider.NewMetricNotFoundError(schema.GroupResource{}, info.Metric)
}

// The value of a metric for each of the named objects that has one.
func (p *prometheus) values(ctx context.Context, namespace string, names []string, info provider.CustomMetricInfo) ([]custom_metrics.MetricValue, error) {
	info, singular, err := info.Normalized(p.mapper)
	if err != nil {
		return nil, err
	}
	for _, rule := range p.rules {
		series, err := p.series(ctx, rule, info.Metric)
		if err != nil {
			return nil, err
		}
		matchers, by := map[string][]string{}, ""
		for label, of := range rule.Resources.Overrides {
			switch of.Resource {
			case singular:
				matchers[label], by = names, label
			case "namespace":
				matchers[label] = []string{namespace}
			}
		}
		if series == "" || by == "" || len(names) == 0 {
			continue
		}
		samples, err := p.ask(ctx, rule, series, matchers, []string{by})
		if err != nil {
			return nil, err
		}
		found := []custom_metrics.MetricValue{}
		for _, sample := range samples {
			object, err := helpers.ReferenceFor(p.mapper, types.NamespacedName{Namespace: namespace, Name: sample.labels[by]}, info)
			if err != nil {
				return nil, err
			}
			found = append(found, custom_metrics.MetricValue{
				DescribedObject: object,
				Metric:          custom_metrics.MetricIdentifier{Name: info.Metric},
				Timestamp:       metav1.Now(),
				Value:           sample.value,
			})
		}
		return found, nil
	}
	return nil, provider.NewMetricNotFoundError(info.GroupResource, info.Metric)
}

// The name of the series that a rule gives this name in the API; an empty one where there is none.
func (p *prometheus) series(ctx context.Context, rule rule, metric string) (string, error) {
	var found []map[string]string
	if err := p.get(ctx, "series", url.Values{"match[]": {rule.SeriesQuery}}, &found); err != nil {
		return "", err
	}
	for _, labels := range found {
		name := labels["__name__"]
		if at := rule.name.FindStringSubmatchIndex(name); at != nil {
			if string(rule.name.ExpandString(nil, rule.Name.As, name, at)) == metric {
				return name, nil
			}
		}
	}
	return "", nil
}

func (p *prometheus) ask(ctx context.Context, rule rule, series string, values map[string][]string, by []string) ([]sample, error) {
	matchers := []string{}
	for _, label := range slices.Sorted(maps.Keys(values)) {
		quoted := []string{}
		for _, value := range values[label] {
			quoted = append(quoted, regexp.QuoteMeta(value))
		}
		matchers = append(matchers, fmt.Sprintf("%s=~%q", label, strings.Join(quoted, "|")))
	}
	var query bytes.Buffer
	err := rule.query.Execute(&query, map[string]string{
		"Series": series, "LabelMatchers": strings.Join(matchers, ","), "GroupBy": strings.Join(by, ","),
	})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Result []struct {
			Metric map[string]string
			Value  []any
		}
	}
	if err := p.get(ctx, "query", url.Values{"query": {query.String()}}, &answer); err != nil {
		return nil, err
	}
	samples := []sample{}
	for _, row := range answer.Result {
		value, err := strconv.ParseFloat(row.Value[1].(string), 64)
		if err != nil || math.IsNaN(value) || math.IsInf(value, 0) {
			continue // a share of nothing, say
		}
		samples = append(samples, sample{row.Metric, *resource.NewMilliQuantity(int64(value*1000), resource.DecimalSI)})
	}
	return samples, nil
}

func (p *prometheus) get(ctx context.Context, what string, query url.Values, data any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/api/v1/"+what+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer := struct {
		Error string
		Data  any
	}{Data: data}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return fmt.Errorf("prometheus: %s", answer.Error)
	}
	return nil
}

func main() {
	adapter := &cmd.AdapterBase{Name: "metrics-adapter"}
	address := adapter.Flags().String("prometheus-url", "http://127.0.0.1:9090", "where Prometheus is")
	file := adapter.Flags().String("config", "", "the file of the rules")
	// Prometheus is asked anew each time; prometheus-adapter, in whose place this can stand, is not to wait for long.
	adapter.Flags().Duration("metrics-relist-interval", 0, "not used")
	orDie(adapter.Flags().Parse(os.Args))
	var config struct{ Rules, ExternalRules []rule }
	text, err := os.ReadFile(*file)
	orDie(err)
	orDie(yaml.UnmarshalStrict(text, &config))
	for _, rules := range [][]rule{config.Rules, config.ExternalRules} {
		for index := range rules {
			rules[index].name, err = regexp.Compile(rules[index].Name.Matches)
			orDie(err)
			rules[index].query, err = template.New("").Delims("<<", ">>").Parse(rules[index].MetricsQuery)
			orDie(err)
			if rules[index].Name.As == "" {
				rules[index].Name.As = "$0"
			}
		}
	}
	client, err := adapter.DynamicClient()
	orDie(err)
	mapper, err := adapter.RESTMapper()
	orDie(err)
	source := &prometheus{
		url: strings.TrimSuffix(*address, "/"), client: client, mapper: mapper, rules: config.Rules, external: config.ExternalRules,
	}
	adapter.WithCustomMetrics(source)
	adapter.WithExternalMetrics(source)
	orDie(adapter.Run(context.Background()))
}

func orDie(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
