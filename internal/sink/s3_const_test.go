package sink_test

const (
	accessKey = "muster-test"
	secretKey = "not-a-secret-of-anybody"
)
