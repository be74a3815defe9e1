package archtest_test

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// textExts are the files that the rules on words look at.
var textExts = []string{
	".go", ".rs", ".c", ".h", ".S", ".md", ".sh", ".toml", ".wat", ".yml", ".yaml", ".txt", ".mod", "",
}

// textFiles are the files of the tree whose content is text that people write.
func textFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	walk(t, func(rel string) {
		if slices.Contains(textExts, path.Ext(rel)) && !strings.HasSuffix(rel, ".lock") && path.Base(rel) != "LICENSE" {
			files = append(files, rel)
		}
	})
	return files
}

// The rules are put together here, so that this file does not break them.
var wordRules = []struct {
	what    string
	pattern *regexp.Regexp
	cure    string
}{
	{
		"a path of one machine",
		regexp.MustCompile(`/wo` + `rk/(main|brief|shared|\.)|/tmp/br` + `ief`),
		"please use a path from the repository's root",
	},
	{
		"a registry's host name",
		regexp.MustCompile(`(proxy\.go` + `lang\.org|static\.cra` + `tes\.io|deb\.deb` + `ian\.org)`),
		"please name the package only",
	},
	{
		"a task without an issue", regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b(?:[^(]|\([^#0-9])`),
		"please say which issue: (#12)",
	},
	{
		"a banner", regexp.MustCompile(`(?m)^\s*(//|#|;;)\s*[-=*#]{8,}`),
		"please use a heading, or a file of its own",
	},
}

func TestText_HasNoForbiddenWords(t *testing.T) {
	for _, rel := range textFiles(t) {
		text := read(t, rel)
		for _, rule := range wordRules {
			for _, at := range rule.pattern.FindAllStringIndex(text, -1) {
				line := 1 + strings.Count(text[:at[0]], "\n")
				t.Errorf("%s:%d: %s, %q: %s", rel, line, rule.what, text[at[0]:at[1]], rule.cure)
			}
		}
	}
}
