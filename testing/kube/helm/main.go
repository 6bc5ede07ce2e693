// Command helm renders a chart as Helm does and prints the YAML: no cluster, no release.
//
//	helm CHART RELEASE NAMESPACE [KEY=VALUE]...
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"helm.sh/helm/v4/pkg/strvals"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "helm CHART RELEASE NAMESPACE [KEY=VALUE]...")
		os.Exit(2)
	}
	if err := render(os.Args[1], os.Args[2], os.Args[3], os.Args[4:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func render(dir, release, namespace string, pairs []string) error {
	chart, err := loader.Load(dir)
	if err != nil {
		return err
	}
	values := map[string]any{}
	for _, pair := range pairs {
		if err := strvals.ParseInto(pair, values); err != nil {
			return err
		}
	}
	options := common.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := util.ToRenderValues(chart, values, options, common.DefaultCapabilities)
	if err != nil {
		return err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(files))
	for name := range files {
		if strings.HasSuffix(name, ".yaml") && strings.TrimSpace(files[name]) != "" {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Printf("---\n%s\n", strings.TrimSpace(files[name]))
	}
	return nil
}
