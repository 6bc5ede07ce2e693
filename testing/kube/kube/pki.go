package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// lifetime of everything that is signed: a test cluster does not live that long.
const lifetime = 30 * 24 * time.Hour

// clients of the API server: file name, user, group.
var clients = [][3]string{
	{"admin", "admin", "system:masters"},
	{"apiserver-kubelet", "apiserver-kubelet", "system:masters"},
	{"kcm", "system:kube-controller-manager", ""},
	{"scheduler", "system:kube-scheduler", ""},
	{"proxy", "system:kube-proxy", ""},
}

// newPKICommand makes the keys and certificates of one cluster and a kubeconfig for each client.
//
//	DIR/pki/{ca,apiserver,sa,apiserver-kubelet}.{crt,key}, DIR/pki/sa.pub
//	DIR/{admin,kcm,scheduler,proxy,kubelet}.conf
func newPKICommand() *cobra.Command {
	var dir, server, node string
	var addresses []net.IP
	cmd := &cobra.Command{Use: "pki", RunE: func(*cobra.Command, []string) error {
		p := pki{dir: dir, server: server}
		if err := os.MkdirAll(filepath.Join(dir, "pki"), 0o700); err != nil {
			return err
		}
		all := clients
		if node != "" {
			all = append(all, [3]string{"kubelet", "system:node:" + node, "system:nodes"})
		}
		if err := p.authority(); err != nil {
			return err
		}
		if err := p.serviceAccountKey(); err != nil {
			return err
		}
		names := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
		serving := &x509.Certificate{Subject: pkix.Name{CommonName: "kube-apiserver"}, DNSNames: names, IPAddresses: addresses, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		if _, _, err := p.sign("apiserver", serving); err != nil {
			return err
		}
		for _, c := range all {
			if err := p.client(c[0], c[1], c[2]); err != nil {
				return err
			}
		}
		return nil
	}}
	cmd.Flags().StringVar(&dir, "dir", "", "where to")
	cmd.Flags().StringVar(&server, "server", "", "URL of the API server")
	cmd.Flags().StringVar(&node, "node", "", "name of the node whose kubelet gets a certificate; empty for none")
	cmd.Flags().IPSliceVar(&addresses, "address", nil, "addresses of the API server")
	return cmd
}

type pki struct {
	dir, server string
	ca          *x509.Certificate
	caPEM       []byte
	caKey       crypto.Signer
}

func (p *pki) write(name string, content []byte) error {
	return os.WriteFile(filepath.Join(p.dir, name), content, 0o600)
}

func (p *pki) authority() error {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "moonshot-test-ca"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	certPEM, key, err := p.sign("ca", template)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(certPEM)
	p.ca, err = x509.ParseCertificate(block.Bytes)
	p.caPEM, p.caKey = certPEM, key
	return err
}

func (p *pki) serviceAccountKey() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := p.writeKey("pki/sa.key", key); err != nil {
		return err
	}
	return p.write("pki/sa.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
}

func (p *pki) writeKey(name string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return p.write(name, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

// sign makes a key and a certificate, by the authority or, where there is none yet, by itself.
func (p *pki) sign(name string, template *x509.Certificate) ([]byte, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	template.SerialNumber = serial
	// Clocks of a machine may jump in tests.
	template.NotBefore, template.NotAfter = time.Now().Add(-24*time.Hour), time.Now().Add(lifetime)
	if template.KeyUsage == 0 {
		template.KeyUsage = x509.KeyUsageDigitalSignature
	}
	parent, signer := p.ca, p.caKey
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate %s: %w", name, err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := p.write("pki/"+name+".crt", certPEM); err != nil {
		return nil, nil, err
	}
	return certPEM, key, p.writeKey("pki/"+name+".key", key)
}

func (p *pki) client(name, user, group string) error {
	subject := pkix.Name{CommonName: user}
	if group != "" {
		subject.Organization = []string{group}
	}
	certPEM, key, err := p.sign(name, &x509.Certificate{Subject: subject, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["test"] = &clientcmdapi.Cluster{Server: p.server, CertificateAuthorityData: p.caPEM}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificateData: certPEM, ClientKeyData: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})}
	config.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: name}
	config.CurrentContext = "test"
	return clientcmd.WriteToFile(*config, filepath.Join(p.dir, name+".conf"))
}
