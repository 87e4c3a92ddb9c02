package resource

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// filler puts texts and numbers everywhere in a spec where it has some.
type filler struct {
	text  string
	float float64
	whole int64
}

func (f filler) fill(v reflect.Value) {
	switch v.Type() {
	case reflect.TypeFor[Moment]():
		v.Set(reflect.ValueOf(Moment{time.Unix(f.whole%1e9, 0).UTC()}))
		return
	case reflect.TypeFor[Duration]():
		v.SetInt(max(0, f.whole))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(f.text)
	case reflect.Bool:
		v.SetBool(f.whole%2 == 0)
	case reflect.Float64:
		v.SetFloat(f.float)
	case reflect.Int, reflect.Int64:
		v.SetInt(f.whole)
	case reflect.Interface:
		v.Set(reflect.ValueOf([]any{f.text, f.float, f.whole, nil, true, map[string]any{f.text: f.text}}))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		f.fill(v.Index(0))
		f.fill(v.Index(1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for _, key := range []string{f.text, "x" + f.text, f.text + " x"} {
			value := reflect.New(v.Type().Elem()).Elem()
			f.fill(value)
			v.SetMapIndex(reflect.ValueOf(key), value)
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			f.fill(field)
		}
	default:
	}
}

// FuzzYAML puts one text everywhere where a text can be, and reads what was
// written. The seeds are what a library for YAML has once changed, or what other
// readers take for something else.
func FuzzYAML(f *testing.F) {
	for _, text := range []string{
		"SELECT pid FROM processes", "", " ", "a", " a ", "a\tb", "\ta", "a\t", "a\rb", "a\r\nb\r\n", "a\nb", "a\nb\n", "a\nb\n\n", "\na", "\n", "\n\n",
		" a\nb", "\ta\nb", "a\n\tb", "a\n \tb", "a \nb", "a\t\nb", "a\n  b\n c", "a\n\n\nb", "a\n---\nb", "---", "--- a", "...", "a\n...\n", "a\n# b\n", "|-\n a",
		"? ", "? a", "- a", "-", "?", ":", "a: b", "a:", "a :b", "a #b", "#", "<<", "a <<", "a << : b", "=", "~", "null", "Null", "true", "yes", "off", "y",
		".inf", "-.inf", "+.INF", ".nan", "inf", "nan", "Infinity", "1", "1.10", "1e3", "0x1f", "0o17", "017", "0b1", "1_000", "12:30", "1:2:3", "2026-01-01", "2026-01-01T00:00:00Z", "5.22.1", "+1", ".5", "0", "-0",
		"\"", "'", "a'b\"c", "\\", "a\\nb", "%", "@a", "`a", "*a", "&a", "!a", "!!str a", "{", "{}", "a{b", "[", "a, b", "a]", ">", "| a",
		"é☁️", "\u0085", "\u00a0", "\u2028a", "\u200b", "\ufeff", "a\ufeff", "\ufffd", "\U000e0001", "\x00", "\x01", "\x1b[0m", "\x7f",
		strings.Repeat("<", 300), strings.Repeat("a\n", 3) + strings.Repeat("\n", 40) + "b", strings.Repeat("a\t", 3000) + "\nb", "tag = a", "a\n  b\n",
	} {
		f.Add(text, 0.5, int64(60))
	}
	for _, n := range []float64{1e25, 1 << 63, 1.8446744073709552e19, -1e19, 1e-9, math.MaxFloat64, 5e-324, 1e21, 3} {
		f.Add("a", n, int64(n))
	}
	f.Add("a", 1.0, int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, text string, float float64, whole int64) {
		if !utf8.ValidString(text) || math.IsNaN(float) || math.IsInf(float, 0) || float == 0 && math.Signbit(float) {
			t.Skip("JSON has no such text or number")
		}
		var objects []Object
		var want []string
		for _, k := range Kinds() {
			o := Object{Key{k.Name, "x"}, text, k.New()}
			filler{text, float, whole}.fill(reflect.ValueOf(o.Spec).Elem())
			o, hash := kept(t, o)
			objects, want = append(objects, o), append(want, hash)
		}
		b, err := YAML(objects)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse("written", b)
		if err != nil || len(got) != len(objects) {
			t.Fatalf("%d objects, %v\n%s", len(got), err, b)
		}
		for i, o := range got {
			if _, hash := kept(t, o); hash != want[i] {
				was, _ := objects[i].Canonical()
				is, _ := o.Canonical()
				t.Errorf("%s reads back as\n%s, was\n%s", o.Key, is, was)
			}
		}
	})
}

// TestParse_asWritten has texts that YAML takes for something else.
func TestParse_asWritten(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"5.10", "5.0", "1e5", "1.50e5", "0x1f", "0777", "0o17", "0b11", "1_000", "+1", "-0", "true", "True", "yes", ".inf", "-.INF", ".NaN", "2026-01-01", "18446744073709551616"} {
		objects, err := Parse("x", []byte(doc("Pack", "p", "{version: "+text+", discovery: ["+text+"], queries: {"+text+": {query: "+text+", interval: 60}}}")+
			"apiVersion: muster/v1\nkind: Profile\nname: p\ndescription: "+text+"\nspec:\n  views:\n    "+text+": "+text+"\n  decorators:\n    interval:\n      "+text+":\n        - "+text+"\n"))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		pack, _ := objects[0].Spec.(*Pack)
		if pack.Version != text || pack.Discovery[0] != text || pack.Queries[text].Query != text {
			t.Errorf("%s is %+v", text, pack)
		}
		profile, _ := objects[1].Spec.(*Profile)
		if objects[1].Description != text || profile.Views[text] != text || profile.Decorators.Interval[text][0] != text {
			t.Errorf("%s is %q and %+v", text, objects[1].Description, profile.Config)
		}
	}
}

// kept returns an object as it comes from where it is kept, with its hash.
func kept(t *testing.T, o Object) (Object, string) {
	t.Helper()
	b, err := o.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	o, err = Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	return o, Hash(b)
}
